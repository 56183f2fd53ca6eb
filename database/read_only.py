"""A database that refuses to be written, for as long as it is copied; what is stored can be read.

Triggers refuse, made for that time and dropped after it: a write is checked by the database itself, whoever writes, and
costs nothing while there are none. Their making waits for the transactions that are writing. Each refuses one tenant or
everybody, as its name says: what is made for one copy is dropped without a look at what others have made.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncEngine

from database.models import Base, Tenant, Turn
from database.tenancy import TENANT

_MARK = "this database is read-only while it is copied"
# What PostgreSQL itself answers on a standby.
_SQLSTATE = "25006"
_PREFIX = "read_only"
_EVERYBODY = "all"
_OPERATIONS = ("insert", "update", "delete")
_NAME = re.compile(rf"{_PREFIX}_(?:{'|'.join(_OPERATIONS)})_([^_]+)")
_FUNCTION = f"""
    CREATE OR REPLACE FUNCTION refuse_write() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{_MARK}' USING ERRCODE = '{_SQLSTATE}'; END $$
"""
_POSTGRESQL_TRIGGERS = text("""
    SELECT t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE starts_with(t.tgname, 'read_only_') AND pg_table_is_visible(c.oid)
""")
_SQLITE_TRIGGERS = text("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND name GLOB 'read_only_*'")


class _Trigger(NamedTuple):
    name: str
    table: str
    # Everybody, if none.
    tenant_id: str | None


def refuses_writes(error: BaseException | None) -> bool:
    """Whether this is how the driver says that the database is read-only."""
    return getattr(error, "sqlstate", None) == _SQLSTATE or _MARK in str(error)


async def refuse_turns(engine: AsyncEngine, tenant_id: str | None = None) -> None:
    """Let no turn begin, of one tenant or of all; those that run may end. Needs the owner of the tables."""
    await _refuse(engine, [Base.metadata.tables[Turn.__tablename__]], ("insert",), tenant_id)


async def refuse_writes(engine: AsyncEngine, tenant_id: str | None = None) -> None:
    """Let nothing be written, of one tenant or at all. Needs the owner of the tables."""
    await _refuse(engine, Base.metadata.sorted_tables, _OPERATIONS, tenant_id)


async def allow_writes(engine: AsyncEngine, tenant_id: str | None = None) -> None:
    """Let be written again what was refused for this tenant alone, or for everybody; what else is refused stays so."""
    found = await _triggers(engine)
    ours = [trigger for trigger in found if trigger.tenant_id == tenant_id]
    postgresql = engine.dialect.name == "postgresql"
    for name, table, _ in ours:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}" + (f" ON {table}" if postgresql else ""))
    if postgresql and len(ours) == len(found):
        async with engine.begin() as connection:
            await connection.exec_driver_sql("DROP FUNCTION IF EXISTS refuse_write()")


async def refused_tenants(engine: AsyncEngine) -> set[str | None]:
    """For whom something is refused: tenants' ids, and None if it is for everybody."""
    return {trigger.tenant_id for trigger in await _triggers(engine)}


async def is_read_only(engine: AsyncEngine) -> bool:
    """Whether anything is refused, to anybody."""
    return bool(await refused_tenants(engine))


async def _triggers(engine: AsyncEngine) -> list[_Trigger]:
    async with engine.connect() as connection:
        postgresql = engine.dialect.name == "postgresql"
        rows = list(await connection.execute(_POSTGRESQL_TRIGGERS if postgresql else _SQLITE_TRIGGERS))
    found = []
    for name, table in rows:
        if match := _NAME.match(name):
            whose = match.group(1)
            found.append(_Trigger(name, table, None if whose == _EVERYBODY else whose))
    return found


async def _refuse(
    engine: AsyncEngine, tables: Iterable[Table], operations: Iterable[str], tenant_id: str | None
) -> None:
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            await connection.exec_driver_sql(_FUNCTION)
    # One table after another: whoever writes to several of them meanwhile is refused as a whole by the first that is
    # locked, and two that lock in different orders do not wait for each other for ever.
    for table in tables:
        column = "id" if table is Tenant.__table__ else TENANT
        if tenant_id is not None and column not in table.c:
            continue
        async with engine.begin() as connection:
            for operation in operations:
                for statement in _trigger(connection.dialect.name, table.name, operation, column, tenant_id):
                    await connection.exec_driver_sql(statement)


def _trigger(dialect: str, table: str, operation: str, column: str, tenant_id: str | None) -> tuple[str, str]:
    if tenant_id is not None and not tenant_id.isalnum():
        # A trigger takes no parameters.
        raise ValueError("this is no tenant's id")
    name = f"{_PREFIX}_{operation}_{tenant_id or _EVERYBODY}"
    row = "OLD" if operation == "delete" else "NEW"
    when = "" if tenant_id is None else f" WHEN ({row}.{column} = '{tenant_id}')"
    if dialect == "postgresql":
        making = (
            f"CREATE TRIGGER {name} BEFORE {operation} ON {table} FOR EACH ROW{when} EXECUTE FUNCTION refuse_write()"
        )
        return f"DROP TRIGGER IF EXISTS {name} ON {table}", making
    name = f"{name}_{table}"
    making = f"CREATE TRIGGER {name} BEFORE {operation} ON {table}{when} BEGIN SELECT RAISE(ABORT, '{_MARK}'); END"
    return f"DROP TRIGGER IF EXISTS {name}", making
