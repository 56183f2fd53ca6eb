"""Queries on leases."""

from datetime import datetime

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import Lease


class LeaseRepository:
    """Leases of running turns; a global table, usable in any transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def renew(self, turn_ids: list[str], until: datetime) -> None:
        """Prolong the leases of turns that live."""
        await self._session.execute(update(Lease).where(Lease.turn_id.in_(turn_ids)).values(expires_at=until))

    async def abandoned(self, at: datetime, dead_owner: str | None = None) -> list[Lease]:
        """Leases that expired before `at`; of an owner known to be dead, all of them, and nobody else's."""
        abandoned = Lease.expires_at < at if dead_owner is None else Lease.owner == dead_owner
        return list(await self._session.scalars(select(Lease).where(abandoned)))

    async def hear(self, turn_id: str, at: datetime) -> None:
        """Note that somebody listens to this turn."""
        await self._session.execute(update(Lease).where(Lease.turn_id == turn_id).values(heard_at=at))

    async def stop(self, turn_id: str, at: datetime) -> None:
        """Ask the owner of this turn to cancel it."""
        await self._session.execute(update(Lease).where(Lease.turn_id == turn_id).values(stopped_at=at))

    async def noted(self, owner: str) -> list[Lease]:
        """The leases of this owner on which other instances have left a note."""
        noted = or_(Lease.heard_at.is_not(None), Lease.stopped_at.is_not(None))
        return list(await self._session.scalars(select(Lease).where(Lease.owner == owner, noted)))

    async def living(self, at: datetime, tenant_id: str | None = None) -> int:
        """How many turns had given a sign of life by `at`; of one tenant, or of all."""
        statement = select(func.count()).select_from(Lease).where(Lease.expires_at >= at)
        if tenant_id is not None:
            statement = statement.where(Lease.tenant_id == tenant_id)
        return await self._session.scalar(statement) or 0

    async def release(self, turn_ids: list[str]) -> None:
        """Give up the leases of these turns."""
        await self._session.execute(delete(Lease).where(Lease.turn_id.in_(turn_ids)))
