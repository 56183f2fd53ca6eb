"""What locks a tenant and its rows beside its erasure, on PostgreSQL: in one order, or again once it was taken back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from app.common.errors import NotFound
from database.engine import create_engine
from database.repositories.key_repository import KeyRepository
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.erasure_service import ErasureService
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import Limits, LimitService
from services.principal import Principal
from services.tenant_service import TenantService
from tests.conftest import make_tenant
from tests.rows import TESTER, a_turn, store
from tests.whole_database import row_counts, until_somebody_waits


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(create_engine(postgres_url))
    yield database
    await database.close()


@pytest.fixture
async def ours(database: Database) -> Principal:
    """A suspended tenant that has a turn."""
    principal = await make_tenant(database, "ours")
    await store(database, principal, a_turn(principal))
    await TenantService(database).suspend(TESTER, principal.tenant_id)
    return principal


def _goes_on_once_somebody_waits(
    database: Database, monkeypatch: pytest.MonkeyPatch, owner: type[Any], name: str
) -> asyncio.Event:
    """Let the first who locks by this method go on when somebody else waits; set when it has the lock."""
    lock: Callable[..., Any] = getattr(owner, name)
    has_it = asyncio.Event()

    async def held(*arguments: Any) -> Any:
        row = await lock(*arguments)
        if not has_it.is_set():
            has_it.set()
            await until_somebody_waits(database)
        return row

    monkeypatch.setattr(owner, name, held)
    return has_it


async def test_a_key_that_is_rotated_while_its_tenant_is_erased_is_rotated_first(
    database: Database, ours: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_it = _goes_on_once_somebody_waits(database, monkeypatch, KeyRepository, "lock")
    keys = KeyService(database, Peppers(b"s" * 32))
    rotating = asyncio.create_task(keys.rotate(TESTER, ours.tenant_id, ours.key_id, timedelta(hours=1)))
    await has_it.wait()
    report = await ErasureService(database, 10).tenant(TESTER, ours.tenant_id)
    assert (await rotating).row.tenant_id == ours.tenant_id
    assert report == {"tenants": 1, "api_keys": 2, "turns": 1}


async def test_the_first_limits_of_a_tenant_wait_for_its_erasure_and_are_not_made_any_more(
    database: Database, ours: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_it = _goes_on_once_somebody_waits(database, monkeypatch, TenantRepository, "lock")
    erasing = asyncio.create_task(ErasureService(database, 10).tenant(TESTER, ours.tenant_id))
    await has_it.wait()
    with pytest.raises(NotFound):
        await LimitService(database).set(TESTER, ours.tenant_id, Limits(turns_at_once=1))
    assert await erasing == {"tenants": 1, "api_keys": 1, "turns": 1}
    assert await row_counts(database) == {}
