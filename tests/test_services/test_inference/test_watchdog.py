"""Steps that hang: in a process of their own, since it does not outlive them."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.inference import watchdog
from services.inference.engine import Failed, GenerationRequest
from services.inference.engine_client import EngineClient
from services.inference.watchdog import Watchdog
from tests.generations import all_heard
from tests.process import ROOT


@pytest.mark.parametrize(
    ("harm", "where"), [("hangs", "in hang\n"), ("hangs-with-the-lock", "in hang_with_the_lock\n")]
)
async def test_a_step_that_hangs_ends_the_process_and_shows_where_it_was(tmp_path: Path, harm: str, where: str) -> None:
    path = tmp_path / "engine.sock"
    command = [sys.executable, "-m", "tests.hurt_engine", str(path), harm, "--at=2", "--step-seconds=0.3"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stderr=PIPE)
    client = EngineClient(path)
    running = asyncio.create_task(client.run())
    async with asyncio.timeout(60):
        while not (await client.health()).ready:
            await asyncio.sleep(0.01)
        request = GenerationRequest(id="r", tenant="t", prompt_ids=[1, 2], max_tokens=50)
        async with client.admit(request) as place:
            events = await all_heard(place)
        _, stacks = await process.communicate()
    running.cancel()
    assert isinstance(events[-1], Failed)
    assert (events[-1].kind, events[-1].retryable) == ("engine_lost", True)
    assert process.returncode == 1
    assert where in stacks.decode()


class Timer:
    """What stands in for the timer of `faulthandler`."""

    def __init__(self) -> None:
        self.left: float | None = None
        self.sets = 0

    def dump_traceback_later(self, seconds: float, **_: Any) -> None:
        self.left = seconds
        self.sets += 1

    def cancel_dump_traceback_later(self) -> None:
        self.left = None


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    timer = Timer()
    monkeypatch.setattr(watchdog, "faulthandler", timer)
    return timer


def test_an_engine_at_rest_is_not_timed(timer: Timer) -> None:
    dog = Watchdog(100)
    seen = [timer.left]
    for tell in (dog.step, dog.rest, dog.step, dog.rest):
        tell()
        seen.append(timer.left)
    assert seen == pytest.approx([None, 110, None, 110, None])


def test_the_timer_gives_every_step_its_time_and_is_not_set_for_each(
    timer: Timer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: now))
    dog, set_at = Watchdog(100), 0.0
    for step in range(2001):
        now = step * 0.1
        before = timer.sets
        dog.step()
        if timer.sets > before:
            set_at = now
        assert timer.left is not None
        assert 100 <= set_at + timer.left - now < 110.1
    assert timer.sets <= 21
