"""The end of a process, as its turns and those who want more of them meet it."""

import asyncio
from typing import cast

import pytest

from app.common.errors import Unavailable
from database.models import TurnStatus
from services.answer_delta import TextDelta
from services.shutdown import Shutdown
from services.turn_end import TurnEnd
from services.turn_follower import TurnFollower
from services.turn_runner import TurnRunner
from tests.test_services.test_turn_runner import USAGE_END, FakeEngine, FakeLog, Running, plan, running, tokens

__all__ = ["running"]


class _Follower:
    """Says whether it was closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def close(self) -> None:
        self.closed.set()


def _shutdown(runner: TurnRunner, *, grace: float) -> tuple[Shutdown, _Follower]:
    follower = _Follower()
    return Shutdown(runner, cast("TurnFollower", follower), grace=grace), follower


async def test_what_runs_may_end_and_nothing_begins(running: Running) -> None:
    goes_on, log = asyncio.Event(), FakeLog()
    runner = running(FakeEngine(tokens("he"), goes_on, tokens("llo"), USAGE_END), log)
    shutdown, follower = _shutdown(runner, grace=60)
    turn = await runner.start(await plan())
    before = shutdown.begun
    stopping = asyncio.create_task(shutdown.run())
    await asyncio.sleep(0)
    assert (before, shutdown.begun) == (False, True)
    with pytest.raises(Unavailable) as refused:
        await runner.start(await plan())
    assert (refused.value.code, refused.value.retry_after) == ("shutting_down", 1)
    assert log.written == ["T1"]
    assert not follower.closed.is_set(), "turns of others can be heard for as long"
    goes_on.set()
    await stopping
    assert follower.closed.is_set()
    assert turn.text == "hello"
    assert [end.status for end in log.ends] == [TurnStatus.COMPLETED]


@pytest.mark.parametrize("hurried", [False, True])
async def test_what_does_not_end_is_cancelled_when_there_is_no_more_time(running: Running, *, hurried: bool) -> None:
    log = FakeLog()
    runner = running(FakeEngine(tokens("hel"), endless=True), log)
    shutdown, follower = _shutdown(runner, grace=3600 if hurried else 0.01)
    turn = await runner.start(await plan())
    listener = turn.events()
    assert await anext(listener) == TextDelta("hel")
    stopping = asyncio.create_task(shutdown.run())
    await asyncio.sleep(0)
    if hurried:
        shutdown.hurry()
    await stopping
    (end,) = [event async for event in listener]
    assert isinstance(end, TurnEnd)
    assert isinstance(end.error, Unavailable)
    assert (end.error.code, end.status, log.ends[0].status) == ("shutting_down", *[TurnStatus.CANCELLED] * 2)
    assert turn.text == "hel"
    assert runner.running == []
    assert follower.closed.is_set()


async def test_a_process_without_turns_stops_at_once_and_may_be_told_so_again(running: Running) -> None:
    shutdown, follower = _shutdown(running(FakeEngine(), FakeLog()), grace=3600)
    async with asyncio.timeout(60):
        await shutdown.run()
        assert follower.closed.is_set()
        await shutdown.run()
