"""Queries on tenants."""

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import Tenant


class TenantRepository:
    """Tenants, by name; in a global transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, tenant: Tenant) -> None:
        """Insert at the next flush."""
        self._session.add(tenant)

    async def any(self) -> bool:
        """Whether there is a tenant at all."""
        return bool(await self._session.scalar(select(exists(select(Tenant.id)))))

    async def by_name(self, name: str) -> Tenant | None:
        """The tenant of that name."""
        return await self._session.scalar(select(Tenant).where(Tenant.name == name))

    async def all(self) -> list[Tenant]:
        """Every tenant, by name."""
        return list(await self._session.scalars(select(Tenant).order_by(Tenant.name)))
