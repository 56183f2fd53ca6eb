"""Queries on API keys."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, case, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from database.clock import now
from database.models import ApiKey, Tenant
from database.models.base import UtcDateTime
from database.repositories.verify_statements import IMPORTED


class FoundKey(NamedTuple):
    """A key, whose it is, and when it was found."""

    key: ApiKey
    tenant: Tenant
    at: datetime


class KeyRepository:
    """API keys; in a global transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, key: ApiKey) -> None:
        """Insert at the next flush."""
        self._session.add(key)

    async def by_hash(self, hashes: Collection[str]) -> FoundKey | None:
        """The key whose full HMAC is among these."""
        return await self._found(ApiKey.hash.in_(hashes))

    async def touch(self, key: ApiKey, unless_since: datetime, **columns: Any) -> None:
        """Write what a key's use changes, unless another process has since that time and the pepper is the same."""
        stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < unless_since)
        if columns["pepper_id"] != key.pepper_id:
            stale = ApiKey.pepper_id == key.pepper_id
        statement = update(ApiKey).where(ApiKey.id == key.id, stale).values(**columns)
        await self._session.execute(statement, execution_options={"synchronize_session": False})

    async def holds_peppers(self, pepper_ids: Collection[str]) -> bool | None:
        """Whether any key was made under one of these; None if there is no key but imported ones, which nobody has."""
        known = func.max(case((ApiKey.pepper_id.in_(pepper_ids), 1), else_=0))
        found = await self._session.scalar(select(known).where(ApiKey.pepper_id != IMPORTED))
        return None if found is None else bool(found)

    async def get(self, key_id: str) -> ApiKey | None:
        """The key of that id."""
        return await self._session.scalar(select(ApiKey).where(ApiKey.id == key_id))

    async def with_tenant(self, key_id: str) -> FoundKey | None:
        """The key of that id, and whose it is."""
        return await self._found(ApiKey.id == key_id)

    async def _found(self, condition: ColumnElement[bool]) -> FoundKey | None:
        # The database's clock is the one that all replicas share; SQLite's is this machine's.
        is_shared = self._session.get_bind().dialect.name == "postgresql"
        at = func.clock_timestamp(type_=UtcDateTime()) if is_shared else literal(now(), UtcDateTime())
        statement = select(ApiKey, Tenant, at).join(Tenant, Tenant.id == ApiKey.tenant_id).where(condition)
        found = (await self._session.execute(statement)).first()
        return None if found is None else FoundKey(*found)

    async def lock(self, tenant_id: str, key_id: str) -> ApiKey | None:
        """The tenant's key of that id, changed by nobody else until the transaction ends."""
        statement = select(ApiKey).where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id)
        return await self._session.scalar(statement.with_for_update())

    async def sharing(self, tenant_id: str, subject: str | None = None) -> dict[str, list[str]]:
        """Ids of a tenant's keys, oldest first, by what their limits are kept under; of one subject, or of all."""
        under = func.coalesce(ApiKey.limit_subject, ApiKey.id)
        statement = select(under, ApiKey.id).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.id)
        if subject is not None:
            statement = statement.where(under == subject)
        found: dict[str, list[str]] = {}
        for shared, key_id in await self._session.execute(statement):
            found.setdefault(shared, []).append(key_id)
        return found

    async def page(self, tenant_id: str, after: str | None, limit: int) -> list[ApiKey]:
        """A tenant's keys, oldest first, after the one of id `after`."""
        statement = select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.id).limit(limit)
        if after is not None:
            statement = statement.where(ApiKey.id > after)
        return list(await self._session.scalars(statement))
