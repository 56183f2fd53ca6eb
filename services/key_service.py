"""API keys: made, listed, changed, revoked, rotated."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.common.errors import InvalidRequest, NotFound
from database.clock import LAST, later, now
from database.models import ApiKey, Tenant
from database.repositories.key_repository import KeyRepository
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.audit_service import Actor, record
from services.key_token import Peppers
from services.name import check_models, check_name
from services.new_key import NewKey, new_key, snapshot
from services.principal import TENANT_SCOPES, Scope
from services.tenant_service import ADMINISTRATORS, RENAME_FIRST, existing


async def holds_keys_of(database: Database, peppers: Peppers | None = None) -> bool | None:
    """Whether any key of the database was made with a secret that is known here; None if it has no keys.

    If none was, its services have another secret, and refuse what is made with this one.
    """
    async with database.begin_global() as session:
        return await KeyRepository(session).holds_peppers(peppers.ids if peppers else [])


class KeyService:
    """Keys of all tenants; the tables are global."""

    def __init__(self, database: Database, peppers: Peppers) -> None:
        self._database = database
        self._pepper = peppers.current

    async def create(
        self,
        by: Actor,
        tenant_id: str,
        *,
        name: str = "",
        scopes: Collection[Scope] | None = None,
        models: Collection[str] | None = None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        """Make a key.

        Args:
            by: who makes it.
            tenant_id: whose it is.
            name: what it is for.
            scopes: None for all but `admin`; of the administrators, for `admin` alone.
            models: the models it may use, by the names clients see, at least one; None for all.
            expires_at: aware; None for never.

        Raises:
            NotFound: there is no such tenant.
            InvalidRequest: such a key cannot be.
        """
        check_name(name)
        check_models(models)
        at = now()
        if expires_at is not None and expires_at <= at:
            raise InvalidRequest("The key would have expired already.", param="expires_at")
        async with self._database.begin_global() as session:
            tenant = existing(await TenantRepository(session).lock(tenant_id))
            made = new_key(
                self._pepper,
                tenant_id,
                name=name,
                scopes=_granted(tenant, scopes),
                models=models,
                at=at,
                expires_at=expires_at,
            )
            _store(session, by, made)
        return made

    async def page(self, tenant_id: str, after: str | None, limit: int) -> list[ApiKey]:
        """A tenant's keys, oldest first, after the one of id `after`. Raises NotFound."""
        async with self._database.begin_global() as session:
            existing(await TenantRepository(session).get(tenant_id))
            return await KeyRepository(session).page(tenant_id, after, limit)

    async def get(self, key_id: str, tenant_id: str | None = None) -> ApiKey:
        """The key of that id, of this tenant or of any. Raises NotFound."""
        async with self._database.begin_global() as session:
            key = await KeyRepository(session).get(key_id)
            return existing_key(key if tenant_id is None or key is None or key.tenant_id == tenant_id else None)

    async def change(self, by: Actor, tenant_id: str, key_id: str, **columns: Any) -> ApiKey:
        """Give it another name, other models or another end. Raises NotFound or InvalidRequest.

        A key that has expired is let in again by a later end, unless it was rotated: it is over with its overlap, which
        can be made shorter or longer until then, but not endless.
        """
        if "name" in columns:
            check_name(columns["name"])
        check_models(columns.get("models"))
        async with self._changing(by, "key.change", tenant_id, key_id) as (_session, key):
            if "expires_at" in columns and key.replaced_by is not None:
                _check_overlap(key, columns["expires_at"])
            for column, value in columns.items():
                setattr(key, column, value)
        return key

    async def revoke(self, by: Actor, tenant_id: str, key_id: str) -> ApiKey:
        """Refuse it from now on, for good. Raises NotFound."""
        async with self._changing(by, "key.revoke", tenant_id, key_id) as (_session, key):
            key.revoked_at = key.revoked_at or now()
        return key

    async def rotate(self, by: Actor, tenant_id: str, key_id: str, overlap: timedelta) -> NewKey:
        """Make a key like this one, which itself goes on for `overlap` at the most. The new one lasts as long.

        Their limits are one budget, now and afterwards.

        Raises NotFound, or InvalidRequest for a key that is not valid, or was rotated before.
        """
        at = now()
        async with self._changing(by, "key.rotate", tenant_id, key_id, adds=True) as (session, key):
            if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= at):
                raise InvalidRequest("The key is not valid any more: make a new one.", param="key_id")
            if key.replaced_by is not None:
                raise InvalidRequest("The key was rotated before: rotate the one that replaced it.", param="key_id")
            made = new_key(
                self._pepper,
                tenant_id,
                name=key.name,
                scopes=[Scope(scope) for scope in key.scopes],
                models=key.models,
                at=at,
                expires_at=None if key.expires_at is None else later(at, key.expires_at - key.created_at),
            )
            made.row.limit_subject = key.limit_subject or key.id
            _store(session, by, made)
            key.replaced_by = made.row.id
            key.expires_at = min(key.expires_at or LAST, later(at, overlap))
        return made

    @asynccontextmanager
    async def _changing(
        self, by: Actor, action: str, tenant_id: str, key_id: str, *, adds: bool = False
    ) -> AsyncIterator[tuple[AsyncSession, ApiKey]]:
        async with self._database.begin_global() as session:
            if adds:
                # A new row locks its tenant. The tenant's erasure locks that first and keys later, and neither would
                # ever get what the other has.
                await TenantRepository(session).hold(tenant_id)
            key = existing_key(await KeyRepository(session).lock(tenant_id, key_id))
            before = snapshot(key)
            yield session, key
            if (after := snapshot(key)) != before:
                record(session, by, action, tenant_id=tenant_id, target_id=key_id, before=before, after=after)


def _store(session: AsyncSession, by: Actor, made: NewKey) -> None:
    row = made.row
    KeyRepository(session).add(row)
    record(session, by, "key.create", tenant_id=row.tenant_id, target_id=row.id, after=snapshot(row))


def _check_overlap(key: ApiKey, end: datetime | None) -> None:
    if end is None or (key.expires_at is not None and key.expires_at <= now()):
        wanted = "its end can be moved while it is let in, but not taken away"
        raise InvalidRequest(f"The key was rotated: {wanted}.", param="expires_at")


def _granted(tenant: Tenant, scopes: Collection[Scope] | None) -> Collection[Scope]:
    if scopes is None:
        return {Scope.ADMIN} if tenant.administers else TENANT_SCOPES
    if Scope.ADMIN in scopes and not tenant.administers:
        cure = f" {RENAME_FIRST} Then make the key with key create --admin." if tenant.name == ADMINISTRATORS else ""
        raise InvalidRequest(f"Only keys of the administrators can have the scope 'admin'.{cure}", param="scopes")
    return scopes


def existing_key(key: ApiKey | None) -> ApiKey:
    """The key that was looked for. Raises NotFound."""
    if key is None:
        raise NotFound("There is no such key.", param="key_id", code="key_not_found")
    return key
