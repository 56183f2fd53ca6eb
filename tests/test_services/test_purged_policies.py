"""What a purge goes by: the policy that a tenant has at that moment."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import ColumnElement

from database.clock import now
from database.engine import create_engine
from database.models import Tenant
from database.repositories.erasure_repository import ErasureRepository
from database.session import Database
from services.principal import Principal
from services.retention_service import RetentionService
from services.tenant_service import TenantService
from tests.conftest import TwoTenants, make_tenant
from tests.rows import TESTER, a_turn, store
from tests.whole_database import row_counts, until_somebody_waits


async def _keep(database: Database, principal: Principal, days: int) -> Tenant:
    return await TenantService(database).change(TESTER, principal.tenant_id, turn_days=days)


async def _old_turns(database: Database, principal: Principal) -> None:
    """Three, of a tenant that keeps them for a week."""
    await _keep(database, principal, 7)
    await store(database, principal, *(a_turn(principal, created_at=now() - timedelta(days=10)) for _ in range(3)))


async def test_a_policy_that_is_taken_back_ends_a_purge_by_it(
    database: Database, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _old_turns(database, tenants.ours)
    batch_of = RetentionService._batch_of

    async def then_changed(*arguments: object) -> Counter[str]:
        deleted = await batch_of(*arguments)  # type: ignore[arg-type]
        if deleted:
            await _keep(database, tenants.ours, 300)
        return deleted

    monkeypatch.setattr(RetentionService, "_batch_of", then_changed)
    assert await RetentionService(database, batch=1, interval=3600).purge(TESTER) == {"turns": 1}
    assert (await row_counts(database))["turns"] == 2


async def test_who_is_told_that_more_is_kept_loses_nothing_afterwards(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(create_engine(postgres_url))
    ours = await make_tenant(database, "ours")
    await _old_turns(database, ours)
    delete, changing = ErasureRepository.turns, list[asyncio.Task[int]]()

    async def change() -> int:
        await _keep(database, ours, 300)
        return (await row_counts(database))["turns"]

    async def while_it_changes(self: ErasureRepository, condition: ColumnElement[bool]) -> Counter[str]:
        changing.append(asyncio.create_task(change()))
        await until_somebody_waits(database)
        return await delete(self, condition)

    monkeypatch.setattr(ErasureRepository, "turns", while_it_changes)
    # Another batch may get the tenant's lock before who waits for it: it goes by what was told before.
    assert (await RetentionService(database, batch=1, interval=3600).purge(TESTER))["turns"] >= 1
    left = (await row_counts(database))["turns"]
    assert {await one for one in changing} == {left}
    await database.close()
