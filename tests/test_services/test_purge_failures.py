"""Purges that fail, of a tenant or as a whole, and those that the service does by itself."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta

import pytest

from app.common.errors import DatabaseUnavailable
from database.clock import now
from database.models import Turn
from database.session import Database
from services import retention_service
from services.audit_service import Actor, AuditService
from services.principal import Principal
from services.retention_service import RetentionService
from services.tenant_service import TenantService
from tests.conftest import TwoTenants
from tests.rows import TESTER, a_turn, store
from tests.whole_database import row_counts


async def _old_turn(database: Database, principal: Principal) -> Turn:
    """Of a tenant that keeps them for a day."""
    await TenantService(database).change(TESTER, principal.tenant_id, turn_days=1)
    turn = a_turn(principal, created_at=now() - timedelta(days=10))
    await store(database, principal, turn)
    return turn


@pytest.fixture
async def one_that_fails(database: Database, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two tenants with a turn each, and the first cannot be purged; those that were tried."""
    for principal in (tenants.ours, tenants.theirs):
        await _old_turn(database, principal)
    purge, tried = RetentionService._purge_tenant, list[str]()

    async def failing(self: RetentionService, by: Actor, tenant_id: str, at: datetime) -> Counter[str]:
        tried.append(tenant_id)
        if tenant_id == tenants.ours.tenant_id:
            raise DatabaseUnavailable("Its rows are locked.")
        return await purge(self, by, tenant_id, at)

    monkeypatch.setattr(RetentionService, "_purge_tenant", failing)
    return tried


async def test_a_tenant_that_cannot_be_purged_keeps_nobody_else_from_it_but_is_told_of(
    database: Database, tenants: TwoTenants, one_that_fails: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DatabaseUnavailable, match="Its rows are locked"):
        await RetentionService(database, batch=10, interval=3600).purge(TESTER)
    assert one_that_fails == [tenants.ours.tenant_id, tenants.theirs.tenant_id]
    assert (await row_counts(database))["turns"] == 1
    assert tenants.ours.tenant_id in caplog.text


async def test_a_purge_breaks_off_where_the_database_is_away(
    database: Database, tenants: TwoTenants, one_that_fails: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_self: Database) -> None:
        raise DatabaseUnavailable("It is away.")

    monkeypatch.setattr(Database, "ping", away)
    with pytest.raises(DatabaseUnavailable, match="It is away"):
        await RetentionService(database, batch=10, interval=3600).purge(TESTER)
    assert one_that_fails == [tenants.ours.tenant_id]


async def _purged(database: Database, retention: RetentionService) -> None:
    """Returns once the service has purged by itself what is old."""
    running = asyncio.create_task(retention.run())
    async with asyncio.timeout(60):
        while (await row_counts(database))["turns"]:
            pass
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_first_purge_comes_soon_after_the_start(
    database: Database, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < retention_service._SOON[0] < retention_service._SOON[1] <= 60
    monkeypatch.setattr(retention_service, "_SOON", (0.0, 0.01))
    await _old_turn(database, tenants.ours)
    await _purged(database, RetentionService(database, batch=10, interval=3600))


async def test_the_service_purges_by_itself_and_goes_on_after_a_failure(
    database: Database, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await _old_turn(database, tenants.ours)
    purge, tried = RetentionService.purge, 0

    async def failing_once(self: RetentionService, by: Actor) -> Counter[str]:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise RuntimeError
        return await purge(self, by)

    monkeypatch.setattr(RetentionService, "purge", failing_once)
    await _purged(database, RetentionService(database, batch=500, interval=0))
    (event, *_) = await AuditService(database).page(tenants.ours.tenant_id, None, 1)
    assert (event.action, event.actor_type, event.actor_id) == ("tenant.purge", "service", "retention")
    assert "it is tried again" in caplog.text
