"""PostgreSQL's own lock between tenants: it binds whatever reaches the tables, under the role that the service has."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import Executable, Table, bindparam, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from database.engine import create_engine
from database.models import Base, TenantOwned
from database.session import Database
from tests.conftest import TwoTenants, make_tenant
from tests.rows import store_one_of_each

_GLOBAL = {"tenants", "api_keys", "leases", "alembic_version"}
_CONTENT: list[Table] = sorted(
    (mapper.local_table for mapper in Base.registry.mappers if issubclass(mapper.class_, TenantOwned)),  # type: ignore[misc]
    key=lambda table: table.name,
)
_by_table = pytest.mark.parametrize("table", _CONTENT, ids=lambda table: table.name)

_READS: dict[str, Callable[[Table], Executable]] = {
    "core": select,
    "text": lambda table: text(f"SELECT * FROM {table.name}"),  # noqa: S608 - our own names
}
_WRITES: dict[str, Callable[[Table], Executable]] = {
    "core delete": lambda table: delete(table).returning(table.c.tenant_id),
    "text delete": lambda table: text(f"DELETE FROM {table.name} RETURNING tenant_id"),  # noqa: S608
    "core update": lambda table: update(table).values(tenant_id=table.c.tenant_id).returning(table.c.tenant_id),
    "text update": lambda table: text(f"UPDATE {table.name} SET tenant_id = tenant_id RETURNING tenant_id"),  # noqa: S608
}


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(create_engine(postgres_url))
    yield database
    await database.close()


@pytest.fixture
async def two(postgres: Database) -> TwoTenants:
    tenants = TwoTenants(ours=await make_tenant(postgres, "ours"), theirs=await make_tenant(postgres, "theirs"))
    await store_one_of_each(postgres, tenants.theirs)
    return tenants


@pytest.fixture
async def bare(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """Without the guard of the session."""
    engine = create_engine(postgres_url)
    yield engine
    await engine.dispose()


async def _as(connection: AsyncConnection, tenant_id: str) -> None:
    await connection.execute(text("SELECT set_config('chatglm.tenant_id', :id, true)"), {"id": tenant_id})


@_by_table
async def test_no_statement_reaches_a_row_of_another_tenant(two: TwoTenants, bare: AsyncEngine, table: Table) -> None:
    for tenant_id, count in ((two.ours.tenant_id, 0), (two.theirs.tenant_id, 1)):
        for make in [*_READS.values(), *_WRITES.values()]:
            async with bare.connect() as connection:
                await _as(connection, tenant_id)
                assert len((await connection.execute(make(table))).all()) == count
                await connection.rollback()


@_by_table
async def test_without_a_tenant_no_statement_finds_anything(two: TwoTenants, bare: AsyncEngine, table: Table) -> None:
    async with bare.connect() as connection:
        for make in [*_READS.values(), *_WRITES.values()]:
            assert (await connection.execute(make(table))).all() == []
        await connection.rollback()
        # Nor on a connection on which somebody was a tenant before.
        await _as(connection, two.theirs.tenant_id)
        await connection.commit()
        assert (await connection.execute(select(table))).all() == []


@_by_table
async def test_no_row_is_written_or_given_to_another_tenant(two: TwoTenants, bare: AsyncEngine, table: Table) -> None:
    async with bare.connect() as connection:
        await _as(connection, two.theirs.tenant_id)
        row = dict((await connection.execute(select(table))).one()._mapping)
        await connection.rollback()
        copy = {f"new_{name}": value for name, value in row.items()}
        columns = ", ".join(f'"{name}"' for name in row)
        values = ", ".join(f":new_{name}" for name in row)
        typed = [bindparam(f"new_{name}", type_=table.c[name].type) for name in row]
        inserts: list[tuple[Executable, Any]] = [
            (insert(table), row),
            (insert(table), [row, row]),
            (text(f"INSERT INTO {table.name} ({columns}) VALUES ({values})").bindparams(*typed), copy),  # noqa: S608
        ]
        for statement, parameters in inserts:
            await _as(connection, two.ours.tenant_id)
            with pytest.raises(ProgrammingError, match="row-level security"):
                await connection.execute(statement, parameters)
            await connection.rollback()
        await _as(connection, two.theirs.tenant_id)
        with pytest.raises(ProgrammingError, match="row-level security"):
            await connection.execute(update(table).values(tenant_id=two.ours.tenant_id))


@_by_table
async def test_the_sessions_own_statements_leave_no_tenant_on_the_connection(
    postgres_url: str, two: TwoTenants, table: Table
) -> None:
    engine = create_engine(postgres_url, pool_size=1)
    database = Database(engine)
    async with database.begin(two.theirs.tenant_id) as session:
        mapper = next(one for one in Base.registry.mappers if one.local_table is table)
        assert len((await session.scalars(select(mapper.class_))).all()) == 1
    async with engine.connect() as connection:
        assert (await connection.execute(select(table))).all() == []
    await database.close()


async def test_every_table_of_the_database_but_the_global_ones_is_locked_also_for_its_owner(bare: AsyncEngine) -> None:
    locked = text(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity, count(p.polname) FROM pg_class c "
        "LEFT JOIN pg_policy p ON p.polrelid = c.oid WHERE c.relkind IN ('r', 'p') "
        "AND c.relnamespace = 'public'::regnamespace GROUP BY c.oid"
    )
    async with bare.connect() as connection:
        found = {name: (forced, policies) for name, forced, policies in await connection.execute(locked)}
    open_tables = {name for name, (forced, _) in found.items() if not forced}
    assert {name for name in open_tables if name in {table.name for table in _CONTENT}} == set()
    with_tenant = {name for name, table in Base.metadata.tables.items() if "tenant_id" in table.c}
    assert open_tables & with_tenant <= _GLOBAL | {"audit_events"}
    assert {found[table.name] for table in _CONTENT} == {(True, 1)}


async def test_the_service_may_not_change_the_schema(bare: AsyncEngine) -> None:
    for statement in ("CREATE TABLE t (id int)", "ALTER TABLE turns DISABLE ROW LEVEL SECURITY", "DROP TABLE turns"):
        async with bare.connect() as connection:
            with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
                await connection.execute(text(statement))
