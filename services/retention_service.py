"""Deleting what is not kept: idempotency keys, and what tenants no longer want, by the clocks they set."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from random import uniform
from typing import TypeAlias

from sqlalchemy import ColumnElement

from app.common.errors import Unavailable
from database.clock import now
from database.clock_skew import check_clock
from database.deadlock import despite_deadlocks
from database.identifier import first_id_at
from database.models import Conversation, IdempotencyKey, Item, Tenant, Turn
from database.repositories.erasure_preview import Doomed, ErasurePreview
from database.repositories.erasure_repository import Counts, ErasureRepository
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.audit_service import Actor, record
from services.idempotency_claim import KEPT

# Seconds from the start to the first purge: somewhere between these.
_SOON = (15.0, 60.0)
_BY_ITSELF = Actor(type="service", id="retention")
# What of a kind is to go, and how a batch of it goes.
_Step: TypeAlias = tuple[
    Callable[[Doomed], ColumnElement[bool] | None],
    Callable[[ErasureRepository, ColumnElement[bool]], Awaitable[Counts]],
]

log = logging.getLogger(__name__)


class RetentionService:
    """Purges tenant by tenant, in batches; any number of replicas may do so at once."""

    def __init__(self, database: Database, *, batch: int, interval: float, pause: float = 0) -> None:
        """`batch`: turns or conversations that one transaction deletes at the most.

        `interval` and `pause`: seconds from one purge to the next, and from one transaction to the next.
        """
        self._database = database
        self._batch = batch
        self._interval = interval
        self._pause = pause

    async def run(self) -> None:
        """Purge soon, and then at every interval, until cancelled."""
        # A service that is often started anew would otherwise never purge. Replicas that start at once come apart.
        wait = min(uniform(*_SOON), self._interval)  # noqa: S311 - nobody gains by guessing it
        while True:
            await asyncio.sleep(wait)
            wait = self._interval
            try:
                await self.purge(_BY_ITSELF)
            except Unavailable as error:
                log.warning("the purge has to wait: %s", error.message)
            except Exception:
                log.exception("the purge failed; it is tried again")

    async def purge(self, by: Actor) -> Counts:
        """Delete what is older than its tenant wants; the rows by table. Audited, each transaction with what it did.

        Tenants come one after another. One whose purge fails keeps none of those after it from theirs; the first such
        error is raised at the end. Raises ClockWrong, before anything is deleted, where this clock is not the
        database's, and Unavailable as soon as that is away.
        """
        at = now()
        await check_clock(self._database)
        async with self._database.begin_global() as session:
            tenants = await TenantRepository(session).all()
        total: Counts = Counter()
        errors: list[Exception] = []
        for tenant in tenants:
            try:
                total += await self._purge_tenant(by, tenant.id, at)
            except Exception as error:  # noqa: BLE001 - raised below
                # Of a database that is away, each tenant would have to wait for the time-out.
                await self._database.ping()
                log.warning("the tenant %s could not be purged: %s", tenant.id, type(error).__name__)
                errors.append(error)
        # Also where nothing was deleted: an erasure may have found a reader in the way.
        await self._database.empty_log()
        if total:
            log.info("purged %s", ", ".join(f"{rows} {table}" for table, rows in sorted(total.items())))
        if errors:
            raise errors[0]
        return total

    async def preview(self) -> Counts:
        """What `purge` would delete now; the rows by table. Raises ClockWrong as it does."""
        at = now()
        await check_clock(self._database)
        async with self._database.begin_global() as session:
            tenants = await TenantRepository(session).all()
        total: Counts = Counter()
        for tenant in tenants:
            async with self._database.begin(tenant.id) as session:
                total += await ErasurePreview(session).count(_doomed(tenant, at))
        return total

    async def _purge_tenant(self, by: Actor, tenant_id: str, at: datetime) -> Counts:
        total: Counts = Counter()
        steps: tuple[_Step, ...] = (
            (lambda doomed: doomed.idempotency_keys, ErasureRepository.idempotency_keys),
            (lambda doomed: doomed.turns, ErasureRepository.turns),
            (lambda doomed: doomed.items, ErasureRepository.items),
            (lambda doomed: doomed.conversations, ErasureRepository.conversations),
        )
        for step in steps:
            while deleted := await despite_deadlocks(partial(self._batch_of, by, tenant_id, at, step)):
                total += deleted
                await asyncio.sleep(self._pause)
        return total

    async def _batch_of(self, by: Actor, tenant_id: str, at: datetime, step: _Step) -> Counts:
        condition_in, delete = step
        async with self._database.begin(tenant_id) as session:
            # In each transaction anew, and held until its end: who was told that more is kept may rely on it at once.
            tenant = await TenantRepository(session).hold(tenant_id)
            if tenant is None or (condition := condition_in(_doomed(tenant, at))) is None:
                return Counter()
            deleted = await delete(ErasureRepository(session, self._batch), condition)
            # That a recorded answer ends after its day is nobody's change, and would be most of the log.
            if deleted.keys() - {IdempotencyKey.__tablename__}:
                record(session, by, "tenant.purge", tenant_id=tenant_id, target_id=tenant_id, after=dict(deleted))
        return deleted


def _doomed(tenant: Tenant, at: datetime) -> Doomed:
    """What the tenant no longer wants kept at this time."""
    turns = items = conversations = None
    if tenant.turn_days is not None:
        # Ids begin with the time they were made. What was brought along into a conversation belongs to no turn.
        oldest = first_id_at(at - timedelta(days=tenant.turn_days))
        turns, items = Turn.id < oldest, (Item.id < oldest) & Item.turn_id.is_(None)
    if tenant.conversation_days is not None:
        conversations = Conversation.used_at < at - timedelta(days=tenant.conversation_days)
    keys = IdempotencyKey.created_at < at - KEPT
    return Doomed(turns=turns, items=items, conversations=conversations, idempotency_keys=keys)
