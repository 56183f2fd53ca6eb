"""An engine that dies, hangs or stands still under turns of every form, again and again."""

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app import child_process
from app.child_process import ChildProcess
from services.limit_service import Limits, LimitService
from tests.event_stream import events
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, events_of, running_service

# Three turns, one of each form, are under way when harm is done.
TOGETHER = 3
LONG = 2000


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(child_process, "_LONGEST_BACKOFF", 0.01)


@asynccontextmanager
async def without_engine(database_url: str, directory: Path) -> AsyncIterator[Service]:
    """A service whose engine is gone; tests start one of their own in its place."""
    async with running_service(database_url, directory, step_seconds=2) as service:
        await service.engine_server.close()
        # What is not given back would make the next round fail.
        await LimitService(service.database).set(TESTER, service.our_id, Limits(turns_at_once=TOGETHER))
        yield service


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with without_engine(database_url, tmp_path) as service:
        yield service


@pytest.fixture
async def sqlite_service(migrated_sqlite: Path, tmp_path: Path) -> AsyncIterator[Service]:
    shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    async with without_engine(f"sqlite:///{tmp_path / 'chatglm.db'}", tmp_path) as service:
        yield service


@asynccontextmanager
async def engine(directory: Path, harm: str, *options: str) -> AsyncIterator[ChildProcess]:
    command = [sys.executable, "-m", "tests.hurt_engine", str(directory / "engine.sock"), harm, *options]
    child = ChildProcess("engine", command)
    keeping = asyncio.create_task(child.keep())
    try:
        async with asyncio.timeout(60):
            yield child
    finally:
        if child._process is not None:
            child._process.kill()
        await child.stop(5)
        await keeping


async def answered(service: Service) -> None:
    """Ask until there is a whole answer."""
    refused = None
    while refused is None or refused.status_code != 200:
        refused = await service.ours.post(NEW_MESSAGE, json={"prompt": "hi", "max_tokens": 1})
        if refused.status_code != 200:
            assert refused.json()["error"]["code"] in {"engine_unavailable", "engine_lost"}
            assert 1 <= int(refused.headers["Retry-After"]) <= 60


async def whole(service: Service) -> str:
    answer = await service.ours.post(NEW_MESSAGE, json={"prompt": "hi", "max_tokens": LONG})
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    return str(answer.json()["error"]["code"])


async def streamed(service: Service) -> str:
    body = {"prompt": "hi", "max_tokens": LONG, "stream": True}
    async with service.ours.stream("POST", NEW_MESSAGE, json=body) as response:
        assert response.status_code == 200, await response.aread()
        heard = await events_of(response)
    return str(heard[-1]["error"]["code"])


async def in_the_background(service: Service) -> str:
    begun = await service.ours.post(NEW_MESSAGE, json={"prompt": "hi", "max_tokens": LONG, "background": True})
    assert begun.status_code == 202, begun.text
    heard = await service.nobody.get(begun.json()["stream_url"])
    return str(events(heard.text)[-1].data["error"]["code"])


async def all_end(service: Service) -> None:
    codes = await asyncio.gather(whole(service), streamed(service), in_the_background(service))
    assert set(codes) == {"engine_lost"}


async def log(service: Service) -> list[dict[str, Any]]:
    response = await service.ours.get("/chat/get/messages/", params={"limit": 100})
    entries: list[dict[str, Any]] = response.json()["messages"]
    return entries


async def rounds(service: Service, directory: Path, harm: str, count: int) -> None:
    """Turns of each form meet the harm in one step after the other; answers before and after."""
    for at in range(count):
        async with engine(directory, harm, f"--at={at}", f"--together={TOGETHER}", "--step-seconds=0.2"):
            await answered(service)
            await all_end(service)
            await answered(service)
    entries = await log(service)
    assert [entry["status"] for entry in entries if entry["finish_reason"] is None] == ["failed"] * count * TOGETHER
    assert {entry["status"] for entry in entries} == {"failed", "completed"}
    # What was heard is stored, and nothing else.
    assert all(entry["response"] == "a" * entry["completion_tokens"] for entry in entries)


async def test_turns_of_an_engine_that_dies_in_whatever_step_end_as_failed(service: Service, tmp_path: Path) -> None:
    await rounds(service, tmp_path, "dies", 5)


async def test_turns_of_an_engine_that_hangs_end_as_failed(sqlite_service: Service, tmp_path: Path) -> None:
    await rounds(sqlite_service, tmp_path, "hangs", 2)


async def test_turns_of_an_engine_that_stands_still_end_as_failed(sqlite_service: Service, tmp_path: Path) -> None:
    async with engine(tmp_path, "never") as child:
        await answered(sqlite_service)
        ending = asyncio.create_task(all_end(sqlite_service))
        while len(await log(sqlite_service)) < 1 + TOGETHER:
            await asyncio.sleep(0.01)
        assert child._process is not None
        child._process.send_signal(signal.SIGSTOP)
        await ending
        refused = await sqlite_service.ours.post(NEW_MESSAGE, json={"prompt": "hi"})
        assert (refused.status_code, _code(refused)) == (503, "engine_unavailable")


async def test_an_engine_that_dies_of_every_request_costs_one_turn_a_life(
    sqlite_service: Service, tmp_path: Path
) -> None:
    answers: list[httpx2.Response] = []
    async with engine(tmp_path, "dies"):
        while sum(_code(answer) == "engine_lost" for answer in answers) < 6:
            asked = (sqlite_service.ours.post(NEW_MESSAGE, json={"prompt": "hi"}) for _ in range(TOGETHER))
            answers += await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {503}
    assert {_code(answer) for answer in answers} == {"engine_lost", "engine_unavailable"}
    # Who was refused has left no row.
    assert len(await log(sqlite_service)) == sum(_code(answer) == "engine_lost" for answer in answers)
    assert all(1 <= int(answer.headers["Retry-After"]) <= 60 for answer in answers)


def _code(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["code"])
