"""The database as nobody's tenant sees it: every row of every table, for tests of what is left in it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine import create_engine
from database.models import Base
from database.session import Database


@asynccontextmanager
async def unbound_connection(database: Database | str) -> AsyncIterator[AsyncConnection]:
    """A connection, of a superuser where there is one, that no lock between tenants binds."""
    url = make_url(database) if isinstance(database, str) else database._engine.url
    if url.get_backend_name() == "postgresql":
        url = url.set(username="postgres")
    engine = create_engine(url.render_as_string(hide_password=False))
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def until_somebody_waits(database: Database) -> None:
    """For a lock of another transaction, on PostgreSQL. Raises TimeoutError."""
    async with unbound_connection(database) as connection, asyncio.timeout(60):
        blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        while not (await connection.execute(blocked)).scalar_one():
            # Within a transaction nothing would change.
            await connection.rollback()


async def columns_holding(database: Database, *wanted: str) -> set[str]:
    """The columns of any table that hold any of these."""
    found = set()
    async with unbound_connection(database) as connection:
        for name in Base.metadata.tables:
            for row in await connection.execute(text(f"SELECT * FROM {name}")):  # noqa: S608 - our own names
                values = {column: str(value) for column, value in row._mapping.items()}
                found |= {f"{name}.{column}" for column in values if any(one in values[column] for one in wanted)}
    return found


async def row_counts(database: Database) -> Counter[str]:
    """Rows by table; the audit log's, which only grows, aside."""
    async with unbound_connection(database) as connection:
        counts = {
            name: (await connection.execute(text(f"SELECT count(*) FROM {name}"))).scalar_one()  # noqa: S608
            for name in Base.metadata.tables
            if name != "audit_events"
        }
    return +Counter(counts)
