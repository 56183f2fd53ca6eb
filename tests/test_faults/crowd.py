"""Clients that ask for the same again and again, as fast as they are let, and measure what they get."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, median, quantiles

import pytest

from tests.process import script
from tests.test_faults.callers import Caller
from tests.test_faults.wire_client import Head, WireClient

# Two seconds at its rate of 20 tokens a second.
PROMPT = script("x" * 40, rate=20)


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


@asynccontextmanager
async def crowd(url: str, callers: Sequence[Caller], size: int, seen: Seen) -> AsyncIterator[None]:
    """So many clients that ask again and again; gone at the end, in the middle of their answers."""
    clients = [asyncio.create_task(ask(url, callers[number % len(callers)], seen)) for number in range(size)]
    try:
        yield
    finally:
        for client in clients:
            client.cancel()
        for client in clients:
            with pytest.raises(asyncio.CancelledError):
                await client


async def ask(url: str, caller: Caller, seen: Seen) -> None:
    while True:
        client = await WireClient.connect(url, caller.key)
        try:
            # The service hangs up on who waits for long.
            with suppress(ConnectionResetError):
                while True:
                    await ask_once(client, seen)
        finally:
            client.close()


async def ask_once(client: WireClient, seen: Seen) -> None:
    began = time.monotonic()
    head = await client.post("/chat/new/message/", prompt=PROMPT, stream=True)
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


def gap(seen: Seen) -> float:
    """The usual time between two events: of each answer the mean, of these the median."""
    return median(mean(gaps) for gaps in seen.gaps)


def tails(*groups: Seen) -> str:
    worst = (quantiles([gap for gaps in seen.gaps for gap in gaps], n=100)[98] * 1000 for seen in groups)
    return "99 % within " + ", then ".join(f"{each:.1f} ms" for each in worst)
