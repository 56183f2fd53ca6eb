"""Tenants: made and listed."""

from sqlalchemy.exc import IntegrityError

from app.common.errors import Conflict, InvalidRequest
from database.clock import now
from database.identifier import new_id
from database.models import Tenant
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.name import check_name


class TenantService:
    """Who shares the service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str) -> Tenant:
        """A new tenant. Raises Conflict if the name is taken, InvalidRequest if it is none."""
        if not name:
            raise InvalidRequest("A tenant needs a name.", param="name")
        check_name(name)
        at = now()
        tenant = Tenant(id=new_id(at), name=name, created_at=at)
        try:
            async with self._database.begin_global() as session:
                TenantRepository(session).add(tenant)
        except IntegrityError as error:
            raise Conflict(f"There is a tenant named {name!r} already.", param="name", code="name_taken") from error
        return tenant

    async def all(self) -> list[Tenant]:
        """Every tenant, by name."""
        async with self._database.begin_global() as session:
            return await TenantRepository(session).all()
