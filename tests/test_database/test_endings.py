"""Closing a database waits for transactions whose callers are gone: nothing of them is broken off."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from sqlalchemy import literal, select
from sqlalchemy.pool import QueuePool

from database.clock import now
from database.engine import create_engine
from database.identifier import new_id
from database.prepared import Prepared
from database.repositories.tenant_repository import TenantRepository
from database.session import Database
from tests.rows import a_tenant
from tests.test_database.prepared_conversations import INSERT, LIST

_ADD = Prepared(INSERT, guard=select(literal(value=True).label("ok")))


class Leaving:
    """A database of one tenant, whose callers go away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.tenant = a_tenant("ours")
        self.open()

    def open(self) -> None:
        engine = create_engine(self._url, pool_size=2, timeout=5)
        self.database, self.pool = Database(engine), cast("QueuePool", engine.pool)

    async def add(self, name: str) -> None:
        await self.database.run_prepared(self.tenant.id, {"id": name, "at": now()}, _ADD)

    async def names(self) -> set[str]:
        return {str(row[0]) for row in await self.database.run_prepared(self.tenant.id, {}, LIST)}


@pytest.fixture
async def leaving(database_url: str) -> AsyncIterator[Leaving]:
    made = Leaving(database_url)
    async with made.database.begin_global() as session:
        TenantRepository(session).add(made.tenant)
    yield made
    await made.database.close()


async def cancel(tasks: list[asyncio.Task[None]]) -> None:
    """As often as it takes: whoever hears of a client that went tells it again and again."""
    while not all(task.done() for task in tasks):
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)


async def test_closing_waits_for_a_session_that_is_being_rolled_back(leaving: Leaving) -> None:
    written = asyncio.Event()

    async def write() -> None:
        async with leaving.database.begin_global() as session:
            session.add(a_tenant("lost"))
            await session.flush()
            written.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await written.wait()
    await cancel([writing])
    await leaving.database.close()
    assert leaving.pool.checkedout() == 0


async def test_closing_waits_for_what_one_transaction_left_to_the_next(leaving: Leaving) -> None:
    first, second = new_id(), new_id()
    going_on, left = asyncio.Event(), asyncio.Event()

    async def write(name: str) -> None:
        async with leaving.database.begin_prepared(leaving.tenant.id) as transaction:
            await transaction.run({"id": name, "at": now()}, _ADD)
            await going_on.wait()
        left.set()

    writing = [asyncio.create_task(write(name)) for name in (first, second)]
    await asyncio.sleep(0)
    going_on.set()
    await cancel(writing[1:])
    await left.wait()
    await leaving.database.close()
    assert leaving.pool.checkedout() == 0
    leaving.open()
    assert first in await leaving.names()


@pytest.mark.parametrize("moment", range(0, 40, 2))
async def test_whenever_callers_go_closing_leaves_no_connection_behind(leaving: Leaving, moment: int) -> None:
    await leaving.add(new_id())
    writing = [asyncio.create_task(leaving.add(new_id())) for _ in range(5)]
    for _ in range(moment):
        await asyncio.sleep(0)
    await cancel(writing)
    await leaving.database.close()
    assert leaving.pool.checkedout() == 0
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
