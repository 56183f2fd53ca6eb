"""Callers whose tenant was erased, while their keys are still remembered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import IntegrityError

from database.repositories.key_repository import KeyRepository
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.authentication_service import no_valid_key


@asynccontextmanager
async def refused_if_erased(database: Database, tenant_id: str, key_id: str | None = None) -> AsyncIterator[None]:
    """Around a transaction that writes a request's first rows: raises Unauthenticated if tenant or key are not there.

    Rows cannot be without the tenant and the key that they name. `key_id`: of rows that name one.
    """
    try:
        yield
    except IntegrityError as error:
        # Asked, and not read from the error: SQLite does not say which row is missing.
        if await _are_there(database, tenant_id, key_id):
            raise
        raise no_valid_key() from error


async def _are_there(database: Database, tenant_id: str, key_id: str | None) -> bool:
    async with database.begin_global() as session:
        # An erasure deletes the keys first, and perhaps waits before it goes on.
        if key_id is not None and await KeyRepository(session).get(key_id) is None:
            return False
        return await TenantRepository(session).get(tenant_id) is not None
