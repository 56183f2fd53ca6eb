"""Queries on API keys."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from database.models import ApiKey


class KeyRepository:
    """API keys; in a global transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, key: ApiKey) -> None:
        """Insert at the next flush."""
        self._session.add(key)

    async def by_hash(self, hashed: str) -> ApiKey | None:
        """The key whose full HMAC this is."""
        return await self._session.scalar(select(ApiKey).where(ApiKey.hash == hashed))

    async def of_tenant(self, tenant_id: str) -> list[ApiKey]:
        """A tenant's keys, oldest first."""
        return list(
            await self._session.scalars(select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.id))
        )

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke a key that is not revoked yet; whether there was one."""
        statement = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=at)
        return bool((await self._session.execute(statement.returning(ApiKey.id))).scalar())
