"""The end of a process, as its turns and those who want more of them meet it."""

import asyncio

import pytest

from app.common.errors import Unavailable
from database.models import TurnStatus
from services.answer_delta import TextDelta
from services.shutdown import Shutdown
from services.turn_end import TurnEnd
from tests.test_services.test_turn_runner import USAGE_END, FakeEngine, FakeLog, Running, plan, running, tokens

__all__ = ["running"]


async def test_what_runs_may_end_and_nothing_begins(running: Running) -> None:
    goes_on, log = asyncio.Event(), FakeLog()
    runner = running(FakeEngine(tokens("he"), goes_on, tokens("llo"), USAGE_END), log)
    shutdown = Shutdown(runner, grace=60)
    turn = await runner.start(await plan())
    before = shutdown.begun
    stopping = asyncio.create_task(shutdown.run())
    await asyncio.sleep(0)
    assert (before, shutdown.begun) == (False, True)
    with pytest.raises(Unavailable) as refused:
        await runner.start(await plan())
    assert (refused.value.code, refused.value.retry_after) == ("shutting_down", 1)
    assert log.written == ["T1"]
    goes_on.set()
    await stopping
    assert turn.text == "hello"
    assert [end.status for end in log.ends] == [TurnStatus.COMPLETED]


@pytest.mark.parametrize("hurried", [False, True])
async def test_what_does_not_end_is_cancelled_when_there_is_no_more_time(running: Running, *, hurried: bool) -> None:
    log = FakeLog()
    runner = running(FakeEngine(tokens("hel"), endless=True), log)
    shutdown = Shutdown(runner, grace=3600 if hurried else 0.01)
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


async def test_a_process_without_turns_stops_at_once_and_may_be_told_so_again(running: Running) -> None:
    shutdown = Shutdown(running(FakeEngine(), FakeLog()), grace=3600)
    async with asyncio.timeout(10):
        await shutdown.run()
        await shutdown.run()
