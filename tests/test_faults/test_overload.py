"""Ten times more clients than places: who is let in does not notice, who is refused hears of it at once."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean, median, quantiles

import pytest
from sqlalchemy import select

from database.models import Turn
from tests.process import script
from tests.test_faults.callers import Caller, make_callers
from tests.test_faults.conftest import KillableDatabase, Tell
from tests.test_faults.killable_service import KillableService, started
from tests.test_faults.ledger import settled
from tests.test_faults.process_memory import growth, held
from tests.test_faults.wire_client import Head, WireClient
from tests.whole_database import unbound_connection

_RUNNING, _QUEUED = 8, 8
_CLIENTS = 10 * (_RUNNING + _QUEUED)
_RATE = 20
_PROMPT = script("x" * 40, rate=_RATE)
_UNLOADED_SECONDS, _OVERLOAD_SECONDS = 10.0, 60.0


@dataclass(slots=True)
class Seen:
    """What all clients saw together; times in seconds.

    Attributes:
        accepted: answers that began.
        gaps: of each answer that came whole, the times between its events.
        refused: how long each refusal took.
    """

    accepted: int = 0
    gaps: list[list[float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("killable_database", ["sqlite"], indirect=True)
async def test_an_overload_slows_nobody_who_is_let_in(
    killable_database: KillableDatabase, tmp_path: Path, tell: Tell
) -> None:
    callers = [one for one in await make_callers(killable_database.url) if one.tenant != "narrow"]
    async with started(killable_database.url, None, tmp_path, max_running=_RUNNING, max_queued=_QUEUED) as service:
        unloaded, loaded, memory = Seen(), Seen(), list[float]()
        async with crowd(service, callers, _RUNNING, unloaded):
            await asyncio.sleep(_UNLOADED_SECONDS)
        pids = service.service.children()
        async with crowd(service, callers, _CLIENTS, loaded):
            for _ in range(int(_OVERLOAD_SECONDS)):
                await asyncio.sleep(1)
                memory.append(held(pids).memory)
        began = time.monotonic()
        await answered(service, callers[0])
        recovered = time.monotonic() - began
        states = await logged(killable_database.url)
    refused = quantiles(loaded.refused, n=100)
    before, then = gap(unloaded), gap(loaded)
    tell(f"{len(loaded.gaps)} answers, {len(loaded.refused)} refusals to {_CLIENTS} clients, {_OVERLOAD_SECONDS:g} s")
    tell(f"time between tokens {before * 1000:.1f} ms, under overload {then * 1000:.1f} ms; {tails(unloaded, loaded)}")
    tell(f"refused within {median(loaded.refused) * 1000:.1f} ms, 95 % within {refused[94] * 1000:.1f} ms")
    tell(f"memory {memory[0]:.0f} MiB, then {memory[-1]:.0f} MiB ({growth(memory[10:]):+.1%})")
    tell(f"the first token {recovered:.2f} s after the end")
    assert len(loaded.gaps) > 100
    assert len(loaded.refused) > 500
    assert then < before * 1.2
    assert refused[94] < 0.05
    assert growth(memory[10:]) < 0.05
    assert recovered < 2
    # Refusals leave no row. Of what began while a client left, it knows nothing.
    assert states.keys() == {"completed", "cancelled"}
    assert 0 <= states.total() - unloaded.accepted - loaded.accepted - 1 <= _CLIENTS


@asynccontextmanager
async def crowd(service: KillableService, callers: Sequence[Caller], size: int, seen: Seen) -> AsyncIterator[None]:
    """So many clients that ask again and again; gone at the end, in the middle of their answers."""
    clients = [asyncio.create_task(ask(service, callers[number % len(callers)], seen)) for number in range(size)]
    try:
        yield
    finally:
        for client in clients:
            client.cancel()
        for client in clients:
            with pytest.raises(asyncio.CancelledError):
                await client


async def ask(service: KillableService, caller: Caller, seen: Seen) -> None:
    while True:
        client = await WireClient.connect(service.url, caller.key)
        try:
            # The service hangs up on who waits for long.
            with suppress(ConnectionResetError):
                while True:
                    await ask_once(client, seen)
        finally:
            client.close()


async def ask_once(client: WireClient, seen: Seen) -> None:
    began = time.monotonic()
    head = await client.post("/chat/new/message/", prompt=_PROMPT, stream=True)
    if head.status == 200:
        seen.accepted += 1
        times = [time.monotonic() async for _ in client.events()]
        seen.gaps.append([then - before for before, then in pairwise(times)])
        return
    body = await client.body(head)
    seen.refused.append(time.monotonic() - began)
    await asyncio.sleep(wait(head, body))


def wait(head: Head, body: bytes) -> float:
    """How long a refusal says to wait, seconds; fails unless it is one as it should be."""
    headers = head.headers
    assert (head.status, headers["content-type"]) == (503, "application/json"), (head, body)
    assert b'"code":"overloaded"' in body, body
    seconds = int(headers["retry-after"])
    assert 1 <= seconds <= 60
    assert seconds - 1 < int(headers["retry-after-ms"]) / 1000 <= seconds
    assert "x-should-retry" not in headers
    return int(headers["retry-after-ms"]) / 1000


async def answered(service: KillableService, caller: Caller) -> None:
    """Returns with the first token of an answer."""
    client = await WireClient.connect(service.url, caller.key)
    while (head := await client.post("/chat/new/message/", prompt=_PROMPT, stream=True)).status != 200:
        await client.body(head)
    await anext(client.events())
    client.close()


async def logged(url: str) -> Counter[str]:
    """How many turns ended how, once all have."""
    await settled(url, 5)
    async with unbound_connection(url) as connection:
        return Counter(await connection.scalars(select(Turn.status)))


def gap(seen: Seen) -> float:
    """The usual time between two events: of each answer the mean, of these the median."""
    return median(mean(gaps) for gaps in seen.gaps)


def tails(*groups: Seen) -> str:
    worst = (quantiles([gap for gaps in seen.gaps for gap in gaps], n=100)[98] * 1000 for seen in groups)
    return "99 % within " + ", then ".join(f"{each:.1f} ms" for each in worst)
