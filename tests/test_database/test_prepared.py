"""Statements that run on the driver itself: bound to their tenant when they are built, not when they run."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    Delete,
    Insert,
    Select,
    Update,
    and_,
    delete,
    exists,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from database.engine import create_engine
from database.identifier import new_id
from database.models import Conversation, Item, Lease, TenantOwned
from database.models.base import Base
from database.prepared import OWN_TENANT, Prepared, given
from database.session import Database, TenantViolation
from tests.conftest import TwoTenants
from tests.rows import a_conversation, store, store_one_of_each

_table: Any = Conversation.__table__
_items: Any = Item.__table__
_leases: Any = Lease.__table__
_OWN = _table.c.tenant_id == OWN_TENANT
_ITEM = _items.c.tenant_id == OWN_TENANT

_UNBOUND: dict[str, Select[Any] | Insert | Update | Delete] = {
    "select": select(_table.c.id),
    "another's tenant": select(_table.c.id).where(_table.c.tenant_id == given("tenant", _table.c.tenant_id)),
    "a constant tenant": select(_table.c.id).where(_table.c.tenant_id == "0" * 32),
    "or": select(_table.c.id).where(or_(_OWN, literal(1) == 1)),
    "not the tenant": select(_table.c.id).where(_table.c.tenant_id != OWN_TENANT),
    "text": select(_table.c.id).where(_OWN, text("1 = 1")),
    "join": select(_table.c.id).join(_items, _items.c.conversation_id == _table.c.id).where(_OWN),
    "join that binds what was there before": select(_table.c.id).outerjoin(_items, _OWN).where(_ITEM),
    "outer join": select(_table.c.id).outerjoin(_items, _items.c.conversation_id == _table.c.id).where(_OWN),
    "subquery": select(_table.c.id).where(_OWN, exists(select(_items.c.id))),
    "common table expression": select(select(_items.c.id).cte().c.id),
    "alias": select(_table.alias().c.id).where(_OWN),
    "update": update(_table).values(user=None),
    "update from": update(_table).where(_OWN, _items.c.conversation_id == _table.c.id).values(user=None),
    "giving away": update(_table).where(_OWN).values(tenant_id="0" * 32),
    "delete": delete(_table),
    "delete where in": delete(_items).where(_ITEM, _items.c.conversation_id.in_(select(_table.c.id))),
    "insert": insert(_table).values(id="0" * 32),
    "insert for another": insert(_table).values(id="0" * 32, tenant_id=given("tenant", _table.c.tenant_id)),
    "insert of many": insert(_table).values([{"id": "0" * 32, "tenant_id": OWN_TENANT}]),
    "insert from another's": insert(_table).from_select(
        ["id", "tenant_id"], select(_leases.c.turn_id, _leases.c.tenant_id)
    ),
    "insert or update of another's": upsert(_table)
    .values(id="0" * 32, tenant_id=OWN_TENANT)
    .on_conflict_do_update(index_elements=["id"], set_={"user": None}),
    "insert or give away": upsert(_table)
    .values(id="0" * 32, tenant_id=OWN_TENANT)
    .on_conflict_do_update(index_elements=["tenant_id", "id"], set_={"tenant_id": "0" * 32}),
    "insert from content": insert(_leases).from_select(["turn_id"], select(_table.c.id)),
}


@pytest.mark.parametrize("statement", _UNBOUND.values(), ids=_UNBOUND.keys())
def test_a_statement_that_is_not_bound_to_its_tenant_cannot_be_prepared(
    statement: Select[Any] | Insert | Update | Delete,
) -> None:
    with pytest.raises(TenantViolation):
        Prepared(statement)
    with pytest.raises(TenantViolation):
        Prepared(statement, select(_table.c.id).where(_OWN))


async def test_every_table_of_another_tenant_is_empty(database: Database, tenants: TwoTenants) -> None:
    await store_one_of_each(database, tenants.theirs)
    for mapper in Base.registry.mappers:
        if issubclass(mapper.class_, TenantOwned):
            table: Any = mapper.local_table
            of_tenant = Prepared(select(table.c.tenant_id).where(table.c.tenant_id == OWN_TENANT))
            for principal, count in ((tenants.ours, 0), (tenants.theirs, 1)):
                async with database.begin_prepared(principal.tenant_id) as transaction:
                    (rows,) = await transaction.run({}, of_tenant)
                assert len(rows) == count, (table.name, count)


_ADD = Prepared(
    insert(_table).values(
        id=given("id", _table.c.id),
        tenant_id=OWN_TENANT,
        length=0,
        created_at=given("at", _table.c.created_at),
        used_at=given("at", _table.c.used_at),
    )
)
_COUNT = Prepared(select(_table.c.id).where(and_(_OWN, _table.c.length >= 0)))


_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ONE_MORE = insert(_table).values(id="f" * 32, tenant_id=OWN_TENANT, length=0, created_at=_NOW, used_at=_NOW)


async def _ids(database: Database, tenant_id: str) -> set[str]:
    async with database.begin_prepared(tenant_id) as transaction:
        (rows,) = await transaction.run({}, _COUNT)
        return {row[0] for row in rows}


async def test_leaving_commits_and_an_error_takes_everything_back(database: Database, tenants: TwoTenants) -> None:
    tenant_id = tenants.ours.tenant_id
    at = a_conversation().created_at
    kept, lost, many = new_id(), new_id(), [new_id(), new_id()]

    async def add_and_fail() -> None:
        async with database.begin_prepared(tenant_id) as transaction:
            await transaction.run({"id": lost, "at": at}, _ADD)
            raise LookupError

    async with database.begin_prepared(tenant_id) as transaction:
        await transaction.run({"id": kept, "at": at}, _ADD)
        await transaction.each([{"id": one, "at": at} for one in many], _ADD)
    with pytest.raises(LookupError):
        await add_and_fail()
    with pytest.raises(IntegrityError):
        async with database.begin_prepared(tenant_id) as transaction:
            await transaction.run({"id": kept, "at": at}, _ADD)
    assert await _ids(database, tenant_id) == {kept, *many}
    assert await _ids(database, tenants.theirs.tenant_id) == set()


async def test_a_cancelled_transaction_leaves_nothing_and_gives_its_connection_back(
    database_url: str, tenants: TwoTenants
) -> None:
    narrow = Database(create_engine(database_url, pool_size=2, timeout=2))
    tenant_id, at = tenants.ours.tenant_id, a_conversation().created_at

    async def add_forever() -> None:
        async with narrow.begin_prepared(tenant_id) as transaction:
            while True:
                await transaction.run({"id": new_id(), "at": at}, _ADD)

    for steps in range(12):
        task = asyncio.create_task(add_forever())
        for _ in range(steps * 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert await _ids(narrow, tenant_id) == set()
    await narrow.close()


async def test_what_a_session_wrote_is_what_prepared_statements_read(database: Database, tenants: TwoTenants) -> None:
    conversation = a_conversation()
    await store(database, tenants.ours, conversation)
    assert await _ids(database, tenants.ours.tenant_id) == {conversation.id}


async def test_a_missing_parameter_is_an_error_and_leaves_the_connection_usable(
    database: Database, tenants: TwoTenants
) -> None:
    with pytest.raises(KeyError):
        async with database.begin_prepared(tenants.ours.tenant_id) as transaction:
            await transaction.run({"id": new_id()}, _ADD)
    assert await _ids(database, tenants.ours.tenant_id) == set()


async def test_the_tenant_cannot_be_given_as_a_parameter(database: Database, tenants: TwoTenants) -> None:
    conversation = a_conversation()
    await store(database, tenants.theirs, conversation)
    names = ("tenant_id", "session_tenant", "given_session_tenant")
    async with database.begin_prepared(tenants.ours.tenant_id) as transaction:
        assert await transaction.run(dict.fromkeys(names, tenants.theirs.tenant_id), _COUNT) == [[]]


async def test_a_guard_that_says_no_keeps_everything_else_from_being_done(
    database: Database, tenants: TwoTenants
) -> None:
    conversation = a_conversation()
    await store(database, tenants.ours, conversation)
    mine = (_OWN, _table.c.id == conversation.id)
    guard = select(_table.c.id, (_table.c.length == given("length", _table.c.length)).label("ok")).where(*mine)
    added, copied = new_id(), new_id()
    group = Prepared(
        update(_table).where(*mine).values(length=7),
        upsert(_table)
        .values(id=added, tenant_id=OWN_TENANT, length=1, labels={}, created_at=_NOW, used_at=_NOW)
        .on_conflict_do_update(index_elements=["tenant_id", "id"], set_={"length": 2}),
        insert(_table).from_select(
            ["id", "tenant_id", "length", "labels", "created_at", "used_at"],
            select(
                literal(copied), OWN_TENANT, literal(3), _table.c.labels, _table.c.created_at, _table.c.used_at
            ).where(*mine),
        ),
        guard=guard,
    )
    tenant_id = tenants.ours.tenant_id
    for length, ok, found in ((5, False, {conversation.id}), (0, True, {conversation.id, added, copied})):
        rows = await database.run_prepared(tenant_id, {"length": length}, group)
        assert [tuple(row) for row in rows] == [(conversation.id, ok)]
        assert await _ids(database, tenant_id) == found
    # A guard that finds nothing forbids nothing.
    assert await database.run_prepared(tenants.theirs.tenant_id, {"length": 0}, Prepared(_ONE_MORE, guard=guard)) == []
    assert len(await _ids(database, tenants.theirs.tenant_id)) == 1


def test_a_guard_is_bound_to_its_tenant_like_any_statement() -> None:
    with pytest.raises(TenantViolation):
        Prepared(_ONE_MORE, guard=select((_table.c.length == 0).label("ok")))
