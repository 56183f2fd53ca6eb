"""Queries on limits; what a turn does to them is in `limit_statements`."""

from collections.abc import Collection
from datetime import date, datetime
from typing import Any

from sqlalchemy import Executable, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement

from database.identifier import first_id_at
from database.models import ApiKey, Limit, Tenant, Turn, TurnStatus, Usage
from database.repositories.tenant_repository import TenantRepository
from database.repositories.verify_statements import IMPORTED


class _LockTurns(Executable, ClauseElement):
    """Waits for statements that write turns, and lets none begin until the transaction ends."""

    inherit_cache = True


@compiles(_LockTurns)
def _lock_turns(_element: _LockTurns, compiler: Any, **_options: Any) -> str:
    # SQLite has one writer at a time.
    return "LOCK TABLE turns IN SHARE ROW EXCLUSIVE MODE" if compiler.dialect.name == "postgresql" else "SELECT 1"


class LimitRepository:
    """Limits of one tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, limit: Limit) -> None:
        """Insert at the next flush."""
        self._session.add(limit)

    async def all(self) -> list[Limit]:
        """The tenant's own and its keys', as far as there are any."""
        return list(await self._session.scalars(select(Limit).order_by(Limit.subject)))

    async def get(self, subject: str) -> Limit | None:
        """The limits of the tenant or one of its keys, locked until the transaction ends."""
        return await self._session.scalar(select(Limit).where(Limit.subject == subject).with_for_update())

    async def stop_turns(self, tenant_id: str) -> list[Turn] | None:
        """Let no turn of the tenant begin or end until the transaction does; those that run.

        None if one of them is about to end, and has to be left to: it would wait for this transaction.
        """
        # First, as erasures and purges do, which then delete turns: the other way round neither would ever get what the
        # other has.
        await TenantRepository(self._session).hold(tenant_id)
        # A statement that begins or ends a turn sees the limits that were there when it began: if it waited for a row,
        # it would go on without those that are about to be made.
        await self._session.execute(_LockTurns())
        # A new turn refers to its tenant, and one that ends changes itself: each waits for one of these locks.
        await self._session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update())
        running = Turn.status == TurnStatus.RUNNING
        locked = list(await self._session.scalars(select(Turn).where(running).with_for_update(skip_locked=True)))
        # Asked last: a turn that ended in between is not missed, one that still ends is.
        ids = set(await self._session.scalars(select(Turn.id).where(running)))
        return locked if {turn.id for turn in locked} == ids else None

    async def ended_since(self, at: datetime, keys: Collection[str] | None) -> list[Turn]:
        """Turns made since then, and made here, that do not run any more; of these keys, or of all."""
        ended = (
            select(Turn)
            .join(ApiKey, ApiKey.id == Turn.key_id)
            .where(Turn.id >= first_id_at(at), Turn.status != TurnStatus.RUNNING, ApiKey.pepper_id != IMPORTED)
        )
        if keys is not None:
            ended = ended.where(Turn.key_id.in_(keys))
        return list(await self._session.scalars(ended))

    async def tokens_since(self, day: date, keys: Collection[str] | None) -> int:
        """Tokens of the turns that were made since that day and have ended; of these keys, or of all."""
        used = select(Usage.prompt_tokens + Usage.completion_tokens).where(Usage.day >= day)
        if keys is not None:
            used = used.where(Usage.key_id.in_(keys))
        return sum(await self._session.scalars(used))
