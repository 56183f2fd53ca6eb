"""Tenants: made, listed, changed, suspended."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError

from app.common.errors import Conflict, InvalidRequest, NotFound
from database.clock import now
from database.identifier import new_id
from database.models import Tenant
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.audit_service import Actor, record
from services.name import check_name

ADMINISTRATORS = "administrators"
# Of a tenant that was made when anybody could have the name.
RENAME_FIRST = (
    f"The tenant named {ADMINISTRATORS!r} is not the administrators'; rename it: "
    f"python -m tools.admin tenant rename {ADMINISTRATORS} NEW_NAME."
)
_AUDITED = (
    "name",
    "administers",
    "suspended_at",
    "keeps_content",
    "turn_days",
    "conversation_days",
    "weight",
    "max_places",
)
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 0.01, 100.0
_MOST_PLACES = 1_000_000


class TenantService:
    """Who shares the service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, by: Actor, name: str, **columns: Any) -> Tenant:
        """A new tenant. Raises Conflict if the name is taken, InvalidRequest if it is none or the administrators'."""
        _check(name, administers=columns.get("administers", False))
        _check_part(columns)
        tenant = new_tenant(name, now(), **columns)
        with _unless_taken(name):
            async with self._database.begin_global() as session:
                TenantRepository(session).add(tenant)
                record(session, by, "tenant.create", tenant_id=tenant.id, target_id=tenant.id, after=snapshot(tenant))
        return tenant

    async def administrators(self, by: Actor) -> Tenant:
        """The tenant whose keys administer the service, made when it is first asked for.

        Raises Conflict if another one has its name, from when that could be given.
        """
        async with self._database.begin_global() as session:
            repository = TenantRepository(session)
            if (tenant := await repository.administrators()) is not None:
                return tenant
            other = await repository.by_name(ADMINISTRATORS)
        if other is not None:
            raise Conflict(f"{RENAME_FIRST} Then ask again.", param="name", code="name_taken")
        return await self.create(by, ADMINISTRATORS, administers=True)

    async def all(self) -> list[Tenant]:
        """Every tenant, by name."""
        async with self._database.begin_global() as session:
            return await TenantRepository(session).all()

    async def page(self, after: str | None, limit: int) -> list[Tenant]:
        """Tenants, oldest first, after the one of id `after`."""
        async with self._database.begin_global() as session:
            return await TenantRepository(session).page(after, limit)

    async def get(self, tenant_id: str) -> Tenant:
        """The tenant of that id. Raises NotFound."""
        async with self._database.begin_global() as session:
            return existing(await TenantRepository(session).get(tenant_id))

    async def named(self, name: str) -> Tenant:
        """The tenant of that name. Raises NotFound."""
        async with self._database.begin_global() as session:
            tenant = await TenantRepository(session).by_name(name)
        if tenant is None:
            raise NotFound(f"There is no tenant named {name!r}.", param="tenant", code="tenant_not_found")
        return tenant

    async def change(self, by: Actor, tenant_id: str, **columns: Any) -> Tenant:
        """Give it another name, content policy or part of the engine.

        Raises NotFound, and what `create` does.
        """
        _check_part(columns)
        with _unless_taken(columns.get("name")):
            async with self._changing(by, "tenant.change", tenant_id) as tenant:
                if columns.get("name", tenant.name) != tenant.name:
                    _check(columns["name"], administers=tenant.administers)
                for column, value in columns.items():
                    setattr(tenant, column, value)
        return tenant

    async def suspend(self, by: Actor, tenant_id: str) -> Tenant:
        """Refuse its keys until it is resumed; what runs goes on. Raises NotFound."""
        async with self._changing(by, "tenant.suspend", tenant_id) as tenant:
            if tenant.administers:
                raise InvalidRequest("The administrators cannot be suspended: revoke their keys.", param="tenant_id")
            tenant.suspended_at = tenant.suspended_at or now()
        return tenant

    async def resume(self, by: Actor, tenant_id: str) -> Tenant:
        """Let its keys in again. Raises NotFound."""
        async with self._changing(by, "tenant.resume", tenant_id) as tenant:
            tenant.suspended_at = None
        return tenant

    @asynccontextmanager
    async def _changing(self, by: Actor, action: str, tenant_id: str) -> AsyncIterator[Tenant]:
        async with self._database.begin_global() as session:
            tenant = existing(await TenantRepository(session).lock(tenant_id))
            before = snapshot(tenant)
            yield tenant
            if (after := snapshot(tenant)) != before:
                record(session, by, action, tenant_id=tenant_id, target_id=tenant_id, before=before, after=after)


def new_tenant(name: str, at: datetime, **columns: Any) -> Tenant:
    """A tenant, not stored yet."""
    # The columns' own defaults come with the insert, too late for the audit log.
    defaults = {"administers": False, "keeps_content": True, "weight": 1.0}
    return Tenant(**defaults | {"id": new_id(at), "name": name, "created_at": at} | columns)


def existing(tenant: Tenant | None) -> Tenant:
    """The tenant that was looked for. Raises NotFound."""
    if tenant is None:
        raise NotFound("There is no such tenant.", param="tenant_id", code="tenant_not_found")
    return tenant


def snapshot(tenant: Tenant) -> dict[str, Any]:
    """What the audit log keeps of a tenant."""
    return {name: getattr(tenant, name) for name in _AUDITED}


def _check(name: str, *, administers: bool) -> None:
    if not name:
        raise InvalidRequest("A tenant needs a name.", param="name")
    check_name(name)
    if name == ADMINISTRATORS and not administers:
        raise InvalidRequest(f"The name {name!r} is kept for the administrators' own tenant.", param="name")


def _check_part(columns: Mapping[str, Any]) -> None:
    if not _SMALLEST_WEIGHT <= columns.get("weight", 1) <= _LARGEST_WEIGHT:
        raise InvalidRequest(f"A weight is {_SMALLEST_WEIGHT:g} to {_LARGEST_WEIGHT:g}.", param="weight")
    places = columns.get("max_places")
    if places is not None and not 1 <= places <= _MOST_PLACES:
        raise InvalidRequest(f"max_places is 1 to {_MOST_PLACES}.", param="max_places")


@contextmanager
def _unless_taken(name: str | None) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict(f"There is a tenant named {name!r} already.", param="name", code="name_taken") from error
