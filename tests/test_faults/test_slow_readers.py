"""A thousand who hardly read what is streamed to them, and a thousand who are connected and say nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.server_config import allow_connections
from tests.process import script
from tests.test_faults.callers import Caller, make_callers
from tests.test_faults.conftest import KillableDatabase, Tell
from tests.test_faults.crowd import Seen, crowd, gap, tails
from tests.test_faults.killable_service import started
from tests.test_faults.process_memory import held
from tests.test_faults.wire_client import WireClient

_IDLE, _SLOW, _OTHERS = 1000, 1000, 8
# One of so many is sent more than kernels take for somebody who does not read, so that the service has to wait.
_FAST_ONE_IN = 50
_BEFORE_SECONDS, _SECONDS = 10.0, 30.0
# For all of these connections together.
_MOST_MIB = 120
# Bytes: as little as Linux lets a connection have.
_WINDOW = 2304


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("killable_database", ["sqlite"], indirect=True)
async def test_slow_readers_and_idle_connections_slow_nobody(
    killable_database: KillableDatabase, tmp_path: Path, tell: Tell
) -> None:
    allow_connections(2 * (_IDLE + _SLOW))
    callers = [one for one in await make_callers(killable_database.url) if one.tenant != "narrow"]
    before, then = Seen(), Seen()
    places = {"max_running": 1024, "max_queued": 256, "max_queued_tokens": 10_000_000}
    async with started(killable_database.url, None, tmp_path, **places) as service:
        pids = [service.service.process.pid, *service.service.children()]
        async with crowd(service.url, callers, _OTHERS, before):
            await asyncio.sleep(_BEFORE_SECONDS)
        alone = held(pids)
        async with slow(service.url, callers[0]) as readers:
            streams = held(pids)
            async with idle(service.url, callers[0]), crowd(service.url, callers, _OTHERS, then):
                await asyncio.sleep(_SECONDS)
            full = held(pids)
            assert not any(reader.done() for reader in readers), "a slow reader has heard the end"
    tell(f"{_SLOW} slow readers, {_IDLE} idle connections; {len(then.gaps)} answers to others")
    tell(f"time between tokens {gap(before) * 1000:.1f} ms, then {gap(then) * 1000:.1f} ms; {tails(before, then)}")
    tell(
        f"memory {alone.memory:.0f} MiB, with the slow readers {streams.memory:.0f} MiB, in the end {full.memory:.0f} "
        f"MiB; files {alone.files}, then {full.files}"
    )
    assert full.files > _IDLE + _SLOW
    assert len(then.gaps) > 50
    assert then.refused == []
    assert gap(then) < gap(before) * 1.2
    assert full.memory - alone.memory < _MOST_MIB


@asynccontextmanager
async def idle(url: str, caller: Caller) -> AsyncIterator[None]:
    """Connections that have been used, and are kept."""
    clients = []
    for _ in range(_IDLE):
        clients.append(await WireClient.connect(url, caller.key))
        # Refused, as anything would do: only that it was answered counts.
        await clients[-1].body(await clients[-1].post("/chat/new/message/"))
    yield
    for client in clients:
        client.close()


@asynccontextmanager
async def slow(url: str, caller: Caller) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Streams whose readers take an event a second; all have begun."""
    begun = asyncio.Semaphore(0)
    readers = [asyncio.create_task(read_slowly(url, caller, number, begun)) for number in range(_SLOW)]
    either: list[asyncio.Future[Any]] = [asyncio.gather(*(begun.acquire() for _ in readers)), *readers]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    for reader in readers:
        if reader.done():
            reader.result()
    yield readers
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


async def read_slowly(url: str, caller: Caller, number: int, begun: asyncio.Semaphore) -> None:
    # Not all at the same moment.
    await asyncio.sleep(number / 100)
    client = await WireClient.connect(url, caller.key, receives=_WINDOW)
    try:
        content = script("x", repeat=5000, rate=2 if number % _FAST_ONE_IN else 60)
        messages = [{"role": "user", "content": content}]
        body = {"model": "scripted", "messages": messages, "stream": True, "max_tokens": 5000}
        head = await client.post("/v1/chat/completions", **body)
        assert head.status == 200, await client.body(head)
        begun.release()
        async for _ in client.events():
            await asyncio.sleep(1)
    finally:
        client.close()
