"""What locks a tenant and its rows beside its erasure, on PostgreSQL: in one order, or again once it was taken back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.common.errors import Deadlocked, NotFound
from database.clock import now
from database.deadlock import despite_deadlocks
from database.engine import create_engine
from database.repositories.key_repository import KeyRepository
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from services.audit_service import AuditService
from services.erasure_service import ErasureService
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import Limits, LimitService
from services.principal import Principal
from services.retention_service import RetentionService
from services.tenant_service import TenantService
from tests.conftest import make_tenant
from tests.rows import TESTER, a_turn, store
from tests.whole_database import row_counts, unbound_connection, until_somebody_waits


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(create_engine(postgres_url))
    yield database
    await database.close()


@pytest.fixture
async def ours(database: Database) -> Principal:
    """A suspended tenant that has a turn, and does not keep it."""
    principal = await make_tenant(database, "ours")
    await store(database, principal, a_turn(principal, created_at=now() - timedelta(days=2)))
    await TenantService(database).change(TESTER, principal.tenant_id, turn_days=1)
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


async def _erase(database: Database, principal: Principal) -> Counter[str]:
    return await ErasureService(database, 10).tenant(TESTER, principal.tenant_id)


async def _purge(database: Database, _principal: Principal) -> Counter[str]:
    return await RetentionService(database, batch=10, interval=3600).purge(TESTER)


@pytest.mark.parametrize("delete", [_erase, _purge])
async def test_what_the_database_takes_back_after_a_deadlock_is_tried_again(
    database: Database, ours: Principal, delete: Callable[[Database, Principal], Coroutine[Any, Any, Counter[str]]]
) -> None:
    async with unbound_connection(database) as other:
        # It leaves it to us to find that we wait for each other, and so to be taken back.
        await other.execute(text("SET deadlock_timeout = '1min'"))
        await other.execute(text("SELECT id FROM turns FOR UPDATE"))
        deleting = asyncio.create_task(delete(database, ours))
        await until_somebody_waits(database)
        await other.execute(text("SELECT id FROM tenants FOR UPDATE"))
        await other.rollback()
    assert (await deleting)["turns"] == 1
    told = [Counter(event.after)["turns"] for event in await AuditService(database).page(ours.tenant_id, None, 10)]
    assert sum(told) == 1


async def test_who_is_taken_back_again_and_again_is_told_so() -> None:
    tries = 0

    async def taken_back() -> None:
        nonlocal tries
        tries += 1
        raise Deadlocked("Others are faster.")

    with pytest.raises(Deadlocked):
        await despite_deadlocks(taken_back)
    assert tries == 5
