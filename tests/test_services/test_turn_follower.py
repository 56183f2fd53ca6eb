"""Turns heard away from the process that runs them, through nothing but the database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import cast

import pytest
from sqlalchemy import func, select

from app.common.errors import NotFound, Unavailable
from database.identifier import new_id
from database.models import Lease, TurnChunk, TurnStatus, TurnText
from database.session import Database
from services.answer_delta import TextDelta
from services.live_turn import LiveTurn
from services.settlement import settlement
from services.turn_end import TurnEnd
from services.turn_follower import TurnFollower
from services.turn_journal import TurnJournal
from services.turn_log import TurnLog
from services.turn_opening import TurnOpening
from services.turn_runner import TurnPlan, TurnRunner
from services.turn_watch import TurnWatch
from tests.conftest import TwoTenants
from tests.turns import a_live_turn, an_end, an_opening

_OWNER = "0" * 32


class _Process:
    """What runs a turn, without an engine: the test says what is said."""

    def __init__(self, database: Database, opening: TurnOpening) -> None:
        self.turn = a_live_turn(patience=60.0, resumable=True)
        self.opening = opening
        self.log = TurnLog(database, owner=_OWNER, lease=timedelta(seconds=30))
        self.journal = TurnJournal(database, cast("TurnRunner", self))
        self.watch = TurnWatch(database, cast("TurnRunner", self), owner=_OWNER)

    @property
    def plans(self) -> list[TurnPlan]:
        return [cast("TurnPlan", self)]

    async def begin(self) -> None:
        await self.log.open(self.turn, self.opening)

    async def say(self, text: str) -> None:
        self.turn.append([TextDelta(text)])
        await self.journal.write()

    async def end(self, status: TurnStatus = TurnStatus.COMPLETED) -> None:
        await self.log.settle(settlement(self.turn, self.opening, an_end(status, finish_reasons=("stop",))))


class _Elsewhere:
    """A process that runs no turn."""

    def find(self, _tenant_id: str, _turn_id: str) -> None:
        return None


@pytest.fixture
async def process(database: Database, tenants: TwoTenants) -> _Process:
    process = _Process(database, an_opening(tenants.ours))
    await process.begin()
    return process


@pytest.fixture
async def follower(database: Database) -> AsyncIterator[TurnFollower]:
    follower = TurnFollower(database, cast("TurnRunner", _Elsewhere()), unheard_seconds=60)
    yield follower
    await follower.close()


async def _hear(turn: LiveTurn, length: int, offset: int = 0) -> str:
    """The text as far as this."""
    heard = ""
    async with asyncio.timeout(60):
        async for event in turn.events(offset=offset):
            assert isinstance(event, TextDelta)
            heard += event.text
            if len(heard) >= length:
                return heard
    raise AssertionError("there is no more")


async def _all(turn: LiveTurn, offset: int = 0) -> tuple[str, TurnEnd]:
    heard = ""
    async with asyncio.timeout(60):
        async for event in turn.events(offset=offset):
            if isinstance(event, TurnEnd):
                return heard, event
            assert isinstance(event, TextDelta)
            heard += event.text
    raise AssertionError("a turn's events end with its end")


async def _chunks(database: Database, tenants: TwoTenants) -> int:
    async with database.begin(tenants.ours.tenant_id) as session:
        return await session.scalar(select(func.count()).select_from(TurnChunk)) or 0


async def _response(database: Database, tenants: TwoTenants, turn: LiveTurn) -> str:
    async with database.begin(tenants.ours.tenant_id) as session:
        return (await session.get_one(TurnText, turn.id)).response


async def test_a_turn_is_heard_elsewhere_while_it_runs_and_after(
    database: Database, tenants: TwoTenants, process: _Process, follower: TurnFollower
) -> None:
    await process.say("你好 ")
    copy = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    assert await _hear(copy, 3) == "你好 "
    # All who listen here share what is read.
    assert await follower.follow(tenants.ours.tenant_id, process.turn.id) is copy
    await process.say("👩‍👩‍👧!")
    assert await _hear(copy, 6, offset=1) == "好 👩‍👩‍👧!"
    process.turn.append([TextDelta(" and what was never written")])
    await process.end()
    heard, end = await _all(copy, offset=3)
    assert heard == "👩‍👩‍👧! and what was never written"
    assert (end.status, end.finish_reason, end.usage) == (TurnStatus.COMPLETED, "stop", an_end().usage)
    assert await _chunks(database, tenants) == 0
    ended = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    assert await _all(ended) == ("你好 " + heard, end)


async def test_the_process_that_runs_a_turn_learns_that_it_is_heard(
    database: Database, tenants: TwoTenants, process: _Process, follower: TurnFollower
) -> None:
    await process.say("a word")
    await _hear(await follower.follow(tenants.ours.tenant_id, process.turn.id), 1)
    async with database.begin_global() as session:
        assert (await session.get_one(Lease, process.turn.id)).heard_at is not None
    process.turn.left_at -= 61
    await process.watch.look()
    assert not process.turn.unheard.is_set()
    async with database.begin_global() as session:
        lease = await session.get_one(Lease, process.turn.id)
        assert lease.heard_at is not None
        lease.heard_at -= timedelta(seconds=61)
    await process.watch.look()
    assert process.turn.unheard.is_set()


async def test_a_turn_is_cancelled_from_elsewhere(
    tenants: TwoTenants, process: _Process, follower: TurnFollower
) -> None:
    await process.say("a word")
    cancelling = asyncio.create_task(follower.cancel(tenants.ours.tenant_id, process.turn.id))
    async with asyncio.timeout(60):
        while not process.turn.unheard.is_set():
            await process.watch.look()
    assert process.turn.stopped is not None
    assert not cancelling.done()
    await process.end(TurnStatus.CANCELLED)
    assert await cancelling == TurnStatus.CANCELLED


async def test_after_a_crash_what_was_written_is_the_answer(
    database: Database, tenants: TwoTenants, process: _Process, follower: TurnFollower
) -> None:
    await process.say("what was ")
    await process.say("written")
    copy = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    assert await process.log.interrupt(tenants.ours.tenant_id, process.turn.id)
    heard, end = await _all(copy)
    assert heard == "what was written" == await _response(database, tenants, process.turn)
    assert end.error is not None
    assert (end.status, end.error.code) == (TurnStatus.INTERRUPTED, "turn_interrupted")
    # Whoever had heard more than was written gets the end all the same; and a process that was only slow adds nothing.
    ended = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    assert (await _all(ended, offset=100))[0] == ""
    await process.say(" too late")
    assert await _chunks(database, tenants) == 0


async def test_a_piece_that_is_written_again_is_heard_once(
    database: Database, tenants: TwoTenants, process: _Process, follower: TurnFollower
) -> None:
    await process.say("one ")
    await process.say("two ")
    copy = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    assert await _hear(copy, 8) == "one two "
    # As after a commit of which nobody knew whether it succeeded.
    async with database.begin(tenants.ours.tenant_id) as session:
        second = await session.get_one(TurnChunk, (tenants.ours.tenant_id, process.turn.id, 4))
        second.text = "two three "
    assert await _hear(copy, 14) == "one two three "


@pytest.fixture
async def unkept(database: Database, tenants: TwoTenants) -> _Process:
    process = _Process(database, an_opening(tenants.ours, keeps_text=False))
    process.turn = a_live_turn()
    process.turn.conversation_id = None
    await process.begin()
    return process


async def test_a_turn_of_which_only_numbers_are_kept_is_cancelled_from_elsewhere_and_heard_by_nobody_there(
    tenants: TwoTenants, unkept: _Process, follower: TurnFollower
) -> None:
    tenant_id, turn_id = tenants.ours.tenant_id, unkept.turn.id
    cancelling = asyncio.create_task(follower.cancel(tenant_id, turn_id))
    async with asyncio.timeout(60):
        while not unkept.turn.unheard.is_set():
            await unkept.watch.look()
    assert unkept.turn.stopped is not None
    with pytest.raises(NotFound):
        await follower.follow(tenant_id, turn_id)
    assert not cancelling.done()
    await unkept.end(TurnStatus.CANCELLED)
    assert await cancelling == TurnStatus.CANCELLED
    # Once it has ended, it is as it was.
    assert await follower.cancel(tenant_id, turn_id) == TurnStatus.CANCELLED
    with pytest.raises(NotFound):
        await follower.follow(tenant_id, turn_id)


async def test_a_turn_that_is_anothers_is_not_there_and_goes_on(
    database: Database, tenants: TwoTenants, process: _Process, unkept: _Process, follower: TurnFollower
) -> None:
    told = set()
    for turn_id in (process.turn.id, unkept.turn.id, new_id()):
        for asking in (follower.follow, follower.cancel):
            with pytest.raises(NotFound) as refused:
                await asking(tenants.theirs.tenant_id, turn_id)
            told.add((refused.value.message, refused.value.param, refused.value.code))
    assert len(told) == 1
    async with database.begin_global() as session:
        notes = await session.scalars(select(Lease.stopped_at))
        assert notes.all() == [None, None]


async def test_a_copy_that_nobody_listens_to_is_given_up(
    tenants: TwoTenants, process: _Process, follower: TurnFollower
) -> None:
    copy = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    copy.left_at -= 6
    async with asyncio.timeout(60):
        while await follower.follow(tenants.ours.tenant_id, process.turn.id) is copy:
            copy.left_at -= 6
            await asyncio.sleep(0)
    assert await _hear_first(process, await follower.follow(tenants.ours.tenant_id, process.turn.id)) == "a word"


async def test_who_listens_to_a_turn_of_another_process_is_told_that_this_one_stops(
    database: Database, tenants: TwoTenants, process: _Process, follower: TurnFollower
) -> None:
    await process.say("a word")
    copy = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    assert await _hear(copy, 6) == "a word"
    cancelling = asyncio.create_task(follower.cancel(tenants.ours.tenant_id, process.turn.id))
    async with asyncio.timeout(60):
        while not process.turn.unheard.is_set():
            await process.watch.look()
    await follower.close()
    heard, end = await _all(copy)
    assert isinstance(end.error, Unavailable)
    assert (heard, end.error.code, end.error.retry_after) == ("a word", "shutting_down", 1)
    # Where a turn is cancelled, its state is the answer; here it is none yet.
    for asking in (cancelling, follower.follow(tenants.ours.tenant_id, process.turn.id)):
        with pytest.raises(Unavailable, match="stopping") as refused:
            await asking
        assert refused.value.code == "shutting_down"
    # It goes on where it runs, and once it has ended it can be read here as long as anything is answered.
    await process.say(", and another")
    await process.end()
    ended = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    assert (await _all(ended))[1].status == TurnStatus.COMPLETED
    assert await _response(database, tenants, process.turn) == "a word, and another"


async def test_a_copy_that_has_ended_keeps_its_end_when_the_process_stops(
    tenants: TwoTenants, process: _Process, follower: TurnFollower
) -> None:
    copy = await follower.follow(tenants.ours.tenant_id, process.turn.id)
    await process.end()
    async with asyncio.timeout(60):
        while not copy.has_ended:
            await asyncio.sleep(0)
    await follower.close()
    assert (await _all(copy))[1].status == TurnStatus.COMPLETED


async def _hear_first(process: _Process, copy: LiveTurn) -> str:
    await process.say("a word")
    return await _hear(copy, 6)
