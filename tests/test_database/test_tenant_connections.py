"""Connections that stay with a tenant: each sees that tenant alone, and one that was lost is replaced."""

import asyncio
from typing import Any

import asyncpg
import pytest
from sqlalchemy import func, select

from app.common.errors import Unavailable
from database.engine import create_engine
from database.prepared import Prepared
from database.session import Database, TenantViolation

_BACKEND = Prepared(select(func.pg_backend_pid()))
_SETTING = Prepared(select(func.current_setting("chatglm.tenant_id")))


async def test_what_is_no_id_never_reaches_sql(postgres_url: str) -> None:
    database = Database(create_engine(postgres_url))
    with pytest.raises(TenantViolation):
        async with database.begin_prepared("x'; DROP TABLE turns; --"):
            pass
    await database.close()


@pytest.mark.parametrize(
    "error",
    [asyncpg.InternalClientError("x"), asyncpg.InterfaceError("x"), TimeoutError(), ConnectionResetError()],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_the_driver_says_of_a_lost_connection_is_unavailable(
    postgres_url: str, error: Exception
) -> None:
    database = Database(create_engine(postgres_url, pool_size=2))
    with pytest.raises(Unavailable):
        async with database.begin_prepared("0" * 32):
            raise error
    assert await _works(database)
    await database.close()


async def test_a_connection_cut_by_the_server_is_unavailable_and_replaced(postgres_url: str) -> None:
    database, other = Database(create_engine(postgres_url, pool_size=2)), Database(create_engine(postgres_url))

    async def outlive_the_connection() -> None:
        async with database.begin_prepared("0" * 32) as transaction:
            ((row,),) = await transaction.run({}, _BACKEND)
            await _cut(other, row[0])
            await transaction.run({}, _SETTING)

    with pytest.raises(Unavailable):
        await outlive_the_connection()
    assert await _works(database)
    # Cut while nobody used it: the next one, of the same tenant or of another, does not notice.
    for tenant_id in ("0" * 32, "1" * 32):
        await _cut(other, await _backend(database, "0" * 32))
        await _heard_of_it(database)
        assert await _works(database, tenant_id)
    await database.close()
    await other.close()


async def test_a_connection_stays_with_its_tenant_and_sees_no_other(postgres_url: str) -> None:
    database = Database(create_engine(postgres_url, pool_size=4))
    ours, theirs = "0" * 32, "1" * 32
    both = [await _backend(database, tenant_id) for tenant_id in (ours, theirs)]
    async with database.begin_prepared(ours), database.begin_prepared(theirs):
        pass
    for tenant_id in (theirs, ours, theirs):
        ((setting,),) = await database.run_prepared(tenant_id, {}, _SETTING)
        assert setting == tenant_id
    assert await _backend(database, ours) in both
    await database.close()


async def test_a_connection_that_was_long_idle_is_asked_first(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(create_engine(postgres_url, pool_size=2))
    backend = await _backend(database, "0" * 32)
    assert await _backend(database, "0" * 32) == backend
    monkeypatch.setattr("database.tenant_connections._TRUSTED_SECONDS", 0.0)
    asked: list[str] = []
    execute = asyncpg.Connection.execute

    async def answer(self: Any, sql: str, *arguments: Any) -> Any:
        asked.append(sql)
        if len(asked) == 2:
            raise OSError
        return await execute(self, sql, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "execute", answer)
    assert await _backend(database, "0" * 32) == backend
    assert await _backend(database, "0" * 32) != backend
    assert len(asked) == 3
    await database.close()


async def test_connections_are_left_to_the_sessions(postgres_url: str) -> None:
    database = Database(create_engine(postgres_url, pool_size=2, timeout=1))
    async with database.begin_prepared("0" * 32):
        await database.ping()
        with pytest.raises(Unavailable):
            await database.run_prepared("1" * 32, {}, _SETTING)
    assert await _works(database, "1" * 32)
    await database.ping()
    await database.close()


async def _backend(database: Database, tenant_id: str) -> int:
    ((backend,),) = await database.run_prepared(tenant_id, {}, _BACKEND)
    assert isinstance(backend, int)
    return backend


async def _cut(database: Database, backend: int | None) -> None:
    async with database.begin_global() as session:
        assert await session.scalar(select(func.pg_terminate_backend(backend)))
    # Until it is gone, nobody can have heard of it.
    while True:
        async with database.begin_global() as session:
            if not await session.scalar(select(func.count()).select_from(func.pg_stat_get_activity(backend))):
                return


async def _heard_of_it(database: Database) -> None:
    """The server's farewell and the connection's end may come in two pieces, and between them it looks alive."""
    assert database._connections is not None
    async with asyncio.timeout(60):
        while not all(kept.driver.is_closed() for kept in database._connections._idle):
            await asyncio.sleep(0)


async def _works(database: Database, tenant_id: str = "0" * 32) -> bool:
    ((setting,),) = await database.run_prepared(tenant_id, {}, _SETTING)
    return bool(setting == tenant_id)
