"""Deleting what is not kept: idempotency keys, and what tenants no longer want, by the clocks they set."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from app.common.errors import Unavailable
from database.clock import now
from database.identifier import first_id_at
from database.models import Conversation, Item, Tenant, Turn
from database.repositories.erasure_repository import Counts, ErasureRepository
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.idempotency_claim import KEPT

log = logging.getLogger(__name__)


class RetentionService:
    """Purges tenant by tenant, in batches; any number of replicas may do so at once."""

    def __init__(self, database: Database, *, batch: int, interval: float) -> None:
        """`batch`: turns or conversations that one transaction deletes at the most; `interval`: seconds."""
        self._database = database
        self._batch = batch
        self._interval = interval

    async def run(self) -> None:
        """Purge at every interval until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.purge()
            except Unavailable as error:
                log.warning("the purge has to wait: %s", error.message)
            except Exception:
                log.exception("the purge failed; it is tried again")

    async def purge(self) -> Counts:
        """Delete what is older than its tenant wants; the rows by table."""
        at = now()
        async with self._database.begin_global() as session:
            tenants = await TenantRepository(session).all()
        total: Counts = Counter()
        for tenant in tenants:
            total += await self._purge_tenant(tenant, at)
        if total:
            log.info("purged %s", ", ".join(f"{rows} {table}" for table, rows in sorted(total.items())))
        return total

    async def _purge_tenant(self, tenant: Tenant, at: datetime) -> Counts:
        total = await self._all(tenant.id, lambda erasure: erasure.idempotency_keys(at - KEPT))
        if tenant.turn_days is not None:
            # Ids begin with the time they were made. What was brought along into a conversation belongs to no turn.
            oldest = first_id_at(at - timedelta(days=tenant.turn_days))
            total += await self._all(tenant.id, lambda erasure: erasure.turns(Turn.id < oldest))
            total += await self._all(
                tenant.id, lambda erasure: erasure.items((Item.id < oldest) & Item.turn_id.is_(None))
            )
        if tenant.conversation_days is not None:
            unused = Conversation.used_at < at - timedelta(days=tenant.conversation_days)
            total += await self._all(tenant.id, lambda erasure: erasure.conversations(unused))
        return total

    async def _all(self, tenant_id: str, batch: Callable[[ErasureRepository], Awaitable[Counts]]) -> Counts:
        total: Counts = Counter()
        while True:
            async with self._database.begin(tenant_id) as session:
                deleted = await batch(ErasureRepository(session, self._batch))
            if not deleted:
                return total
            total += deleted
