"""Transactions of SQLite that wait for each other are committed together, and fail alone."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.common.errors import DatabaseUnavailable, Unavailable
from database.clock import now
from database.engine import create_engine
from database.identifier import new_id
from database.models import Conversation
from database.prepared import Prepared
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from tests.rows import a_tenant
from tests.test_database.prepared_conversations import INSERT, LIST

_ADD = Prepared(INSERT)


class Traced:
    """A database with one tenant, and what SQLite was told."""

    def __init__(self, database: Database, tenant_id: str) -> None:
        self.database, self.tenant_id = database, tenant_id
        self.statements: list[str] = []

    async def trace(self) -> None:
        async with self.database._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.run(lambda one: one.set_trace_callback(self.statements.append))

    def count(self, statement: str) -> int:
        return sum(each.startswith(statement) for each in self.statements)

    async def add(self, name: str, *, fail: Exception | None = None, gate: asyncio.Event | None = None) -> str:
        async with self.database.begin_prepared(self.tenant_id) as transaction:
            await transaction.run({"id": name, "at": now()}, _ADD)
            if gate is not None:
                await gate.wait()
            if fail is not None:
                raise fail
        return name

    async def names(self) -> set[str]:
        async with self.database.begin_prepared(self.tenant_id) as transaction:
            (rows,) = await transaction.run({}, LIST)
        return {str(row[0]) for row in rows}


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'shared.db')}"


@pytest.fixture
async def traced(sqlite_url: str) -> AsyncIterator[Traced]:
    database = Database(create_engine(sqlite_url, timeout=2))
    tenant = a_tenant("ours")
    async with database.begin_global() as session:
        TenantRepository(session).add(tenant)
    made = Traced(database, tenant.id)
    await made.trace()
    yield made
    await database.close()


def ids(count: int) -> list[str]:
    return [new_id() for _ in range(count)]


async def test_what_begins_at_once_is_committed_together(traced: Traced) -> None:
    names = ids(40)
    assert await asyncio.gather(*map(traced.add, names)) == names
    assert traced.count("COMMIT") <= 2
    assert await traced.names() == set(names)


async def test_one_that_comes_alone_is_committed_at_once(traced: Traced) -> None:
    for name in ids(3):
        await traced.add(name)
    assert traced.count("COMMIT") == 3


async def test_one_that_fails_is_undone_alone(traced: Traced) -> None:
    names = ids(9)
    ends = await asyncio.gather(
        *(traced.add(name, fail=LookupError() if at % 3 == 1 else None) for at, name in enumerate(names)),
        return_exceptions=True,
    )
    assert [isinstance(end, LookupError) for end in ends] == [at % 3 == 1 for at in range(9)]
    assert await traced.names() == {name for at, name in enumerate(names) if at % 3 != 1}


async def test_nobody_is_told_of_success_before_the_commit(traced: Traced, sqlite_url: str) -> None:
    gate = asyncio.Event()
    first, second = ids(2)
    # The second waits while the first is in it, so that the first leaves the commit to it.
    leading = asyncio.create_task(traced.add(first))
    holding = asyncio.create_task(traced.add(second, gate=gate))
    while traced.count("SAVEPOINT") < 2:
        await asyncio.sleep(0)
    assert not leading.done()
    path = Path(sqlite_url.partition("///")[2])
    with sqlite3.connect(path) as beside:
        assert beside.execute("SELECT count(*) FROM conversations").fetchone() == (0,)
    beside.close()
    gate.set()
    assert set(await asyncio.gather(leading, holding)) == {first, second}


async def test_when_the_commit_fails_all_hear_of_it_and_nothing_is_kept(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_self: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("database.driver.SqliteConnection.commit", full)
        ends = await asyncio.gather(*map(traced.add, ids(5)), return_exceptions=True)
    assert [type(end) for end in ends] == [DatabaseUnavailable] * 5
    (name,) = ids(1)
    await traced.add(name)
    assert await traced.names() == {name}


async def test_when_sqlite_gives_up_the_whole_transaction_those_before_hear_of_it(traced: Traced) -> None:
    gate = asyncio.Event()
    before, after = ids(2)

    async def giving_up() -> None:
        async with traced.database.begin_prepared(traced.tenant_id) as transaction:
            await transaction.run({}, LIST)
            # What a full disk does to it.
            connection: Any = transaction
            await connection._connection.run(lambda one: one.rollback())
            await gate.wait()
            raise sqlite3.OperationalError("database or disk is full")

    leading = asyncio.create_task(traced.add(before))
    holding = asyncio.create_task(giving_up())
    while traced.count("SAVEPOINT") < 2:
        await asyncio.sleep(0)
    gate.set()
    ends = await asyncio.gather(leading, holding, return_exceptions=True)
    assert [type(end) for end in ends] == [DatabaseUnavailable] * 2
    await traced.add(after)
    assert await traced.names() == {after}


async def test_one_that_is_cancelled_while_it_waits_leaves_nobody_uncommitted(traced: Traced) -> None:
    gate = asyncio.Event()
    first, *others = ids(6)
    leading = asyncio.create_task(traced.add(first, gate=gate))
    waiting = [asyncio.create_task(traced.add(name)) for name in others]
    while traced.count("SAVEPOINT") < 1:
        await asyncio.sleep(0)
    gate.set()
    # Resumed already, and about to hand over to those that are cancelled now.
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    assert await asyncio.wait_for(leading, 60) == first
    await asyncio.gather(*waiting, return_exceptions=True)
    assert first in await traced.names()


async def test_one_that_waits_too_long_is_told_so_and_the_others_go_on(traced: Traced) -> None:
    gate = asyncio.Event()
    first, late, last = ids(3)
    leading = asyncio.create_task(traced.add(first, gate=gate))
    while traced.count("SAVEPOINT") < 1:
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await traced.add(late)
    gate.set()
    assert await leading == first
    await traced.add(last)
    assert await traced.names() == {first, last}


async def test_sessions_and_prepared_transactions_take_turns(traced: Traced) -> None:
    async def by_session(name: str) -> None:
        async with traced.database.begin(traced.tenant_id) as session:
            session.add(Conversation(id=name, length=0, created_at=now(), used_at=now()))

    names = ids(40)
    await asyncio.gather(*(by_session(name) if at % 2 else traced.add(name) for at, name in enumerate(names)))
    assert await traced.names() == set(names)
