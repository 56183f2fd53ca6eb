"""Queries on tenants."""

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import Tenant


class TenantRepository:
    """Tenants; in a global transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, tenant: Tenant) -> None:
        """Insert at the next flush."""
        self._session.add(tenant)

    async def any(self) -> bool:
        """Whether there is a tenant at all."""
        return bool(await self._session.scalar(select(exists(select(Tenant.id)))))

    async def get(self, tenant_id: str) -> Tenant | None:
        """The tenant of that id."""
        return await self._session.scalar(select(Tenant).where(Tenant.id == tenant_id))

    async def lock(self, tenant_id: str) -> Tenant | None:
        """The tenant of that id; until the transaction ends nobody else changes it, or begins a turn of it."""
        return await self._session.scalar(select(Tenant).where(Tenant.id == tenant_id).with_for_update())

    async def hold(self, tenant_id: str) -> Tenant | None:
        """The tenant of that id; until the transaction ends nobody else changes it, but its turns begin and end."""
        return await self._session.scalar(select(Tenant).where(Tenant.id == tenant_id).with_for_update(key_share=True))

    async def by_name(self, name: str) -> Tenant | None:
        """The tenant of that name."""
        return await self._session.scalar(select(Tenant).where(Tenant.name == name))

    async def administrators(self) -> Tenant | None:
        """The one whose keys administer the service, if it was made."""
        return await self._session.scalar(select(Tenant).where(Tenant.administers))

    async def page(self, after: str | None, limit: int) -> list[Tenant]:
        """Tenants, oldest first, after the one of id `after`."""
        statement = select(Tenant).order_by(Tenant.id).limit(limit)
        if after is not None:
            statement = statement.where(Tenant.id > after)
        return list(await self._session.scalars(statement))

    async def all(self) -> list[Tenant]:
        """Every tenant, by name."""
        return list(await self._session.scalars(select(Tenant).order_by(Tenant.name)))
