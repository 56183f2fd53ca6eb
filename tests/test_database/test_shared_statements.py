"""On PostgreSQL a tenant's statements that wait for each other are sent together, and fail alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.common.errors import OutcomeUnknown
from database.clock import now
from database.engine import create_engine
from database.identifier import new_id
from database.prepared import Prepared, given
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from tests.rows import a_tenant
from tests.test_database.prepared_conversations import INSERT, LIST, OWN, TABLE

# Rows of a length that is there already; those that are longer than three forbid.
_LENGTH = given("length", TABLE.c.length)
_ADD = Prepared(
    INSERT.values(length=_LENGTH),
    guard=select(TABLE.c.id, (_LENGTH <= 3).label("ok")).where(OWN, TABLE.c.length == _LENGTH).order_by(TABLE.c.id),
)


class Writing:
    """A database of one tenant, and the messages that the server was sent."""

    def __init__(self, database: Database, tenant_id: str, messages: list[int]) -> None:
        self.database, self.tenant_id, self.messages = database, tenant_id, messages

    async def add(self, name: str, length: int = 0) -> list[tuple[str, bool]]:
        values = {"id": name, "length": length, "at": now()}
        return [(row[0], row[1]) for row in await self.database.run_prepared(self.tenant_id, values, _ADD)]

    async def names(self) -> set[str]:
        return {row[0] for row in await self.database.run_prepared(self.tenant_id, {}, LIST)}


@pytest.fixture
async def writing(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Writing]:
    database = Database(create_engine(postgres_url, pool_size=2, timeout=5))
    tenant = a_tenant("ours")
    async with database.begin_global() as session:
        TenantRepository(session).add(tenant)
    messages: list[int] = []
    fetch, fetchmany = asyncpg.Connection.fetch, asyncpg.Connection.fetchmany

    async def one(self: Any, sql: str, *arguments: Any) -> Any:
        messages.append(1)
        return await fetch(self, sql, *arguments)

    async def many(self: Any, sql: str, arguments: Sequence[Any]) -> Any:
        messages.append(len(arguments))
        return await fetchmany(self, sql, arguments)

    monkeypatch.setattr(asyncpg.Connection, "fetch", one)
    monkeypatch.setattr(asyncpg.Connection, "fetchmany", many)
    yield Writing(database, tenant.id, messages)
    await database.close()


async def test_those_that_come_together_are_sent_together_and_each_gets_its_own_rows(writing: Writing) -> None:
    first, second = sorted([new_id(), new_id()])
    await writing.add(first, 1)
    await writing.add(second, 2)
    writing.messages.clear()
    names = [new_id() for _ in range(150)]
    found = await asyncio.gather(*(writing.add(name, 1 + number % 3) for number, name in enumerate(names)))
    assert writing.messages == [1, 64, 64, 21]
    assert found[:3] == [[(first, True)], [(second, True)], []]
    # A later one of the same message sees what an earlier one did.
    assert [len(rows) for rows in found[0::3]] == [1 + number for number in range(50)]
    assert await writing.names() == {first, second, *names}


async def test_one_that_its_guard_forbids_does_not_keep_the_others_from_being_written(writing: Writing) -> None:
    there = new_id()
    await writing.add(there, 9)
    names = [new_id() for _ in range(5)]
    found = await asyncio.gather(*(writing.add(name, 9 if number == 3 else 0) for number, name in enumerate(names)))
    assert found[3] == [(there, False)]
    assert await writing.names() == {there, *names} - {names[3]}


async def test_one_that_fails_fails_alone(writing: Writing) -> None:
    there = new_id()
    await writing.add(there)
    names = [new_id(), new_id(), there, new_id()]
    outcomes = await asyncio.gather(*(writing.add(name) for name in names), return_exceptions=True)
    assert [isinstance(one, IntegrityError) for one in outcomes] == [False, False, True, False]
    assert await writing.names() == set(names)


async def test_one_whose_values_have_no_room_in_their_columns_fails_alone(writing: Writing) -> None:
    names = [new_id() for _ in range(4)]
    lengths = [0, 0, -(2**40), 0]
    outcomes = await asyncio.gather(*map(writing.add, names, lengths), return_exceptions=True)
    assert [isinstance(one, Exception) for one in outcomes] == [False, False, True, False]
    assert await writing.names() == {names[0], names[1], names[3]}


async def test_one_that_is_cancelled_while_it_waits_harms_nobody(writing: Writing) -> None:
    names = [new_id() for _ in range(4)]
    tasks = [asyncio.create_task(writing.add(name)) for name in names]
    await asyncio.sleep(0)
    tasks[2].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in outcomes] == [list, list, asyncio.CancelledError, list]
    assert await writing.names() >= {names[0], names[1], names[3]}
    tasks = [asyncio.create_task(writing.add(new_id())) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in outcomes] == [asyncio.CancelledError, list, list]


async def test_when_the_database_is_away_each_hears_of_it(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise OSError

    for name in ("fetch", "fetchmany"):
        monkeypatch.setattr(asyncpg.Connection, name, away)
    outcomes = await asyncio.gather(*(writing.add(new_id()) for _ in range(4)), return_exceptions=True)
    assert [type(one) for one in outcomes] == [OutcomeUnknown] * 4
