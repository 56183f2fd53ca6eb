"""The audit log: complete, in the change's own transaction, and never changed again."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.common.errors import Conflict
from database.identifier import new_id
from database.session import Database
from services.audit_service import Actor, AuditService
from services.tenant_service import TenantService
from tests.rows import TESTER
from tests.whole_database import unbound_connection

_COLUMNS = "id, created_at, actor_type, actor_id, action"
# Each would change the log, or leave it without what stood there.
_CHANGES = ["UPDATE audit_events SET actor_id = 'somebody else'", "DELETE FROM audit_events"]
_COPY = "SELECT id, created_at, 'x', 'x', 'x', NULL, NULL, NULL, NULL, NULL FROM audit_events"
_SAME_ROWS = "SELECT rowid, 'x', created_at, 'x', 'x', 'x' FROM audit_events"
_SQLITE_CHANGES = [
    f"INSERT OR REPLACE INTO audit_events {_COPY}",
    f"REPLACE INTO audit_events {_COPY}",
    f"INSERT OR REPLACE INTO audit_events (rowid, {_COLUMNS}) {_SAME_ROWS}",
]
_POSTGRESQL_CHANGES = ["TRUNCATE audit_events", "TRUNCATE audit_events CASCADE"]
_OWNERS_CHANGES = [
    "ALTER TABLE audit_events DISABLE TRIGGER ALL",
    "DROP TRIGGER audit_events_are_kept ON audit_events",
    "DROP TABLE audit_events",
    "SET session_replication_role = replica",
]


@pytest.fixture
def audit(database: Database) -> AuditService:
    return AuditService(database)


async def _assert_refused(url: str, statement: str, role: str | None = None) -> None:
    async with unbound_connection(url) as connection:
        if role is not None:
            await connection.execute(text(f"SET ROLE {role}"))
        with pytest.raises(DBAPIError, match=r"never changed|must be owner|permission denied"):
            await connection.execute(text(statement))


async def _stored(url: str) -> list[tuple[object, ...]]:
    async with unbound_connection(url) as connection:
        return [tuple(row) for row in await connection.execute(text("SELECT * FROM audit_events ORDER BY id"))]


async def test_the_log_cannot_be_changed_even_by_its_owner(database: Database, database_url: str) -> None:
    await TenantService(database).create(TESTER, "ours")
    before = await _stored(database_url)
    assert before
    more = _SQLITE_CHANGES if database_url.startswith("sqlite") else _POSTGRESQL_CHANGES
    for statement in [*_CHANGES, *more]:
        await _assert_refused(database_url, statement)
    assert await _stored(database_url) == before


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_role_that_owns_nothing_can_add_to_the_log_and_do_nothing_else(
    database: Database, database_url: str
) -> None:
    await TenantService(database).create(TESTER, "ours")
    role = f"service_{new_id()}"
    async with unbound_connection(database_url) as connection:
        await connection.execute(text(f"CREATE ROLE {role}"))
        await connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"))
        await connection.commit()
    before = await _stored(database_url)
    for statement in [*_CHANGES, *_POSTGRESQL_CHANGES, *_OWNERS_CHANGES]:
        await _assert_refused(database_url, statement, role)
    added = f"INSERT INTO audit_events ({_COLUMNS}) VALUES ('x', now(), 'a', 'b', 'c')"  # noqa: S608 - our own names
    async with unbound_connection(database_url) as connection:
        await connection.execute(text(f"SET ROLE {role}"))
        await connection.execute(text(added))
        await connection.commit()
    assert len(await _stored(database_url)) == len(before) + 1


async def test_a_change_and_its_event_are_written_together_or_not_at_all(
    database: Database, audit: AuditService
) -> None:
    tenants = TenantService(database)
    await tenants.create(TESTER, "ours")
    other = await tenants.create(TESTER, "theirs")
    for attempt in (tenants.create(TESTER, "ours"), tenants.change(TESTER, other.id, name="ours")):
        with pytest.raises(Conflict):
            await attempt
    assert [event.action for event in await audit.page(None, None, 10)] == ["tenant.create"] * 2


async def test_an_event_says_who_did_what_to_what_and_when(database: Database, audit: AuditService) -> None:
    by = Actor(type="api_key", id=new_id(), request_id=new_id())
    tenants = TenantService(database)
    tenant = await tenants.create(by, "before")
    await tenants.change(by, tenant.id, name="after")
    event, made = await audit.page(None, None, 2)
    assert (event.actor_type, event.actor_id, event.request_id) == ("api_key", by.id, by.request_id)
    assert (event.action, event.tenant_id, event.target_id) == ("tenant.change", tenant.id, tenant.id)
    assert event.before is not None
    assert event.before == made.after
    assert event.after == event.before | {"name": "after"}
    assert event.before["name"] == "before"
    assert event.created_at >= tenant.created_at


async def test_what_changes_nothing_is_no_event(database: Database, audit: AuditService) -> None:
    tenants = TenantService(database)
    tenant = await tenants.create(TESTER, "ours")
    await tenants.resume(TESTER, tenant.id)
    await tenants.change(TESTER, tenant.id, name="ours", turn_days=None)
    assert len(await audit.page(None, None, 10)) == 1


async def test_events_are_listed_newest_first_by_page_and_by_tenant(database: Database, audit: AuditService) -> None:
    tenants = TenantService(database)
    ours, theirs = [await tenants.create(TESTER, name) for name in ("ours", "theirs")]
    for number in range(3):
        await tenants.change(TESTER, ours.id, name=str(number))
    events = await audit.page(None, None, 10)
    assert [event.id for event in events] == sorted((event.id for event in events), reverse=True)
    assert len(events) == 5
    first = await audit.page(ours.id, None, 3)
    rest = await audit.page(ours.id, first[-1].id, 3)
    assert [event.id for event in [*first, *rest]] == [event.id for event in events if event.tenant_id == ours.id]
    assert [event.action for event in await audit.page(theirs.id, None, 10)] == ["tenant.create"]
    assert json.dumps(events[0].after)
