"""Transactions: whole or not at all, and what the caller hears when the database cannot answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import delete, func, literal, select
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
from sqlalchemy.exc import IntegrityError

from app.common.errors import Deadlocked, Unavailable
from database.engine import create_engine
from database.models import Tenant
from database.session import Database
from tests.conftest import TwoTenants
from tests.rows import a_conversation, a_tenant


@pytest.fixture
async def narrow(database_url: str) -> AsyncIterator[Database]:
    """A database with one connection, for which nobody waits long."""
    database = Database(create_engine(database_url, pool_size=1, timeout=1))
    yield database
    await database.close()


async def _names(database: Database) -> list[str]:
    async with database.begin_global() as session:
        return list(await session.scalars(select(Tenant.name)))


async def test_leaving_commits(database: Database) -> None:
    async with database.begin_global() as session:
        session.add(a_tenant("kept"))
    assert await _names(database) == ["kept"]


async def test_an_error_rolls_everything_back(database: Database) -> None:
    async def fail_after_writing() -> None:
        async with database.begin_global() as session:
            session.add(a_tenant("lost"))
            await session.flush()
            raise LookupError

    with pytest.raises(LookupError):
        await fail_after_writing()
    assert await _names(database) == []


async def test_a_row_stays_readable_after_its_transaction(database: Database, tenants: TwoTenants) -> None:
    conversation = a_conversation()
    async with database.begin(tenants.ours.tenant_id) as session:
        session.add(conversation)
    assert conversation.tenant_id == tenants.ours.tenant_id


async def test_a_broken_constraint_is_not_taken_for_an_unreachable_database(database: Database) -> None:
    tenant = a_tenant()
    async with database.begin_global() as session:
        session.add(tenant)
    with pytest.raises(IntegrityError):
        async with database.begin_global() as session:
            session.add(a_tenant(tenant.name))


async def test_a_cancelled_transaction_leaves_nothing_and_gives_its_connection_back(narrow: Database) -> None:
    for steps in range(12):
        task = asyncio.create_task(_write_forever(narrow))
        for _ in range(steps * 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert await _names(narrow) == []


async def _write_forever(database: Database) -> None:
    async with database.begin_global() as session:
        while True:
            session.add(a_tenant(f"tenant {len(session.new)}"))
            await session.flush()
            await session.execute(delete(Tenant))


async def test_no_free_connection_in_time_is_unavailable(narrow: Database) -> None:
    async with narrow.begin_global() as session:
        await session.execute(select(literal(1)))
        with pytest.raises(Unavailable) as caught:
            await narrow.ping()
    assert caught.value.retry_after == 1
    await narrow.ping()


async def test_an_unreachable_sqlite_file_is_unavailable(tmp_path: Path) -> None:
    database = Database(create_engine(f"sqlite:///{tmp_path / 'folder.db'}", makes_file=True))
    (tmp_path / "folder.db").unlink()
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(Unavailable):
        await database.ping()
    await database.close()


async def test_a_file_that_is_no_database_any_more_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    database = Database(create_engine(f"sqlite:///{path}", makes_file=True))
    path.write_text("no database " * 1000)
    with pytest.raises(Exception, match="not a database"):
        await database.ping()
    await database.close()


async def test_a_postgres_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    await _assert_unavailable(f"postgresql://nobody@/nothing?host={tmp_path}")


async def test_a_postgres_that_refuses_the_login_is_unavailable(postgres_directory: str) -> None:
    await _assert_unavailable(f"postgresql://nobody-at-all@/postgres?host={postgres_directory}")


async def test_a_postgres_without_the_database_is_unavailable(postgres_directory: str) -> None:
    await _assert_unavailable(f"postgresql://postgres@/no-such-database?host={postgres_directory}")


async def _assert_unavailable(url: str) -> None:
    database = Database(create_engine(url, timeout=2))
    with pytest.raises(Unavailable):
        await database.ping()
    await database.close()


async def test_a_statement_that_takes_too_long_is_unavailable(postgres_url: str) -> None:
    database = Database(create_engine(postgres_url, timeout=1))
    with pytest.raises(Unavailable):
        async with database.begin_global() as session:
            await session.execute(select(func.pg_sleep(30)))
    await database.ping()
    await database.close()


async def test_a_connection_cut_by_the_server_is_unavailable_and_replaced(postgres_url: str) -> None:
    database = Database(create_engine(postgres_url, pool_size=2))
    other = Database(create_engine(postgres_url))

    async def outlive_the_connection() -> None:
        async with database.begin_global() as session:
            backend = await session.scalar(select(func.pg_backend_pid()))
            async with other.begin_global() as cutting:
                await cutting.execute(select(func.pg_terminate_backend(backend)))
            await session.execute(select(literal(1)))

    with pytest.raises(Unavailable):
        await outlive_the_connection()
    await database.ping()
    await database.close()
    await other.close()


async def test_a_connection_that_was_long_idle_is_asked_first_and_replaced_if_it_does_not_answer(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(create_engine(postgres_url, pool_size=1))
    answers = [True, False]
    ping = AsyncAdapt_asyncpg_connection.ping

    def answer(self: AsyncAdapt_asyncpg_connection) -> None:
        ping(self)  # type: ignore[no-untyped-call]
        if not answers.pop(0):
            raise OSError

    monkeypatch.setattr(AsyncAdapt_asyncpg_connection, "ping", answer)
    monkeypatch.setattr("database.engine._TRUSTED_SECONDS", 0.0)
    backends = []
    for _ in range(3):
        async with database.begin_global() as session:
            backends.append(await session.scalar(select(func.pg_backend_pid())))
    assert backends[0] == backends[1] != backends[2]
    assert answers == []
    await database.close()


async def test_two_transactions_that_block_each_other_end_with_one_unavailable(postgres_url: str) -> None:
    database = Database(create_engine(postgres_url))
    first, second = a_tenant("first"), a_tenant("second")
    async with database.begin_global() as session:
        session.add_all([first, second])
    met = asyncio.Barrier(2)

    async def lock(*ids: str) -> None:
        async with database.begin_global() as session:
            for tenant_id in ids:
                await session.execute(select(Tenant).where(Tenant.id == tenant_id).with_for_update())
                if tenant_id == ids[0]:
                    await met.wait()

    outcomes = await asyncio.gather(lock(first.id, second.id), lock(second.id, first.id), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [Deadlocked]
    await database.close()
