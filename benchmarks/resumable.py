"""What resumable turns cost the others: `python -m benchmarks.resumable`.

Starts a service with the scripted engine and lets some ordinary streams run beside many other turns: in one half of a
pair of rounds these are ordinary streams too, in the other half background turns, listened to the same way. Machines
are noisy, so halves alternate, and what counts is the median of the pairs' ratios.

    python -m benchmarks.resumable --turns 200 --database-url postgresql://…
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median, quantiles
from urllib.parse import urlsplit

from sqlalchemy import func, select

from benchmarks.http_side import PATH, HttpSide
from benchmarks.load import Answer, Question
from benchmarks.processes import cpu_seconds
from benchmarks.service_under_test import ServiceUnderTest, started
from database.engine import create_engine
from database.models import TurnChunk
from database.session import Database
from services.tenant_service import TenantService

_SPOKEN = "word "
_COUNTED_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """One half of a pair.

    Attributes:
        gap_ms, late_ms: between two pieces of an answer of the streams beside, in the mean and at the 99th percentile.
        cpu: of the API's process, seconds.
        writes: to each resumable turn's text in a second; 0 of ordinary ones.
    """

    gap_ms: float
    late_ms: float
    cpu: float
    writes: float = 0.0


def main() -> int:
    """Measure and print; the exit status is 1 where resumable turns slow the others by 5 % or more."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resumable", description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=200, help="turns that run beside")
    parser.add_argument("--beside", type=int, default=20, help="ordinary streams whose times are taken")
    parser.add_argument("--rate", type=float, default=5.0, help="tokens a second of each turn")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each answer")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--database-url", help="a migrated, empty database; default: a new SQLite file")
    arguments = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    with started(
        engine_arguments=["--engine=scripted"],
        max_running=arguments.turns + arguments.beside,
        database_url=arguments.database_url,
        key=None,
    ) as service:
        ratios = [asyncio.run(_pair(service, arguments, number % 2 == 1)) for number in range(arguments.pairs)]
    slower = median(ratios)
    print(f"time between tokens with resumable turns: {slower:.3f} of that with ordinary ones (median)")
    return int(slower >= 1.05)


async def _pair(service: ServiceUnderTest, arguments: argparse.Namespace, reverse: bool) -> float:  # noqa: FBT001
    halves = {}
    for resumable in (reverse, not reverse):
        halves[resumable] = await _half(service, arguments, resumable=resumable)
        name = "resumable" if resumable else "ordinary "
        half = halves[resumable]
        print(
            f"{name}: mean {half.gap_ms:.2f} ms, p99 {half.late_ms:.1f} ms, API {half.cpu:.2f} s of processor time, "
            f"{half.writes:.2f} writes/s a turn"
        )
    return halves[True].gap_ms / halves[False].gap_ms


async def _half(service: ServiceUnderTest, arguments: argparse.Namespace, *, resumable: bool) -> Half:
    tokens = int(arguments.rate * arguments.seconds)
    prompt = json.dumps({"say": (_SPOKEN * tokens)[:tokens], "rate": arguments.rate})
    before = cpu_seconds(service.api_pid)
    load = [asyncio.create_task(_turn(service, prompt, resumable=resumable)) for _ in range(arguments.turns)]
    side = HttpSide(url=service.url, key=service.key, timeout=120)
    question = Question(prompt=prompt, prompt_ids=[], max_tokens=tokens, temperature=1)
    async with side.streams(arguments.beside) as streams:
        beside = asyncio.gather(*(ask(question) for ask in streams))
        await asyncio.sleep(arguments.seconds / 2)
        writes = await _writes(service) if resumable else 0.0
        answers = await beside
    await asyncio.gather(*load)
    gaps = _gaps(answers)
    late = quantiles(gaps, n=100)[-1]
    return Half(gap_ms=1000 * mean(gaps), late_ms=1000 * late, cpu=cpu_seconds(service.api_pid) - before, writes=writes)


def _gaps(answers: Sequence[Answer]) -> list[float]:
    failed = [answer.error for answer in answers if answer.error is not None]
    if failed:
        sys.exit(f"{len(failed)} streams failed: {failed[0]}")
    return [
        later - earlier
        for answer in answers
        for earlier, later in zip(answer.arrivals, answer.arrivals[1:], strict=False)
    ]


async def _turn(service: ServiceUnderTest, prompt: str, *, resumable: bool) -> None:
    """Ask, and read to the end without looking at it."""
    body = {"prompt": prompt, "background" if resumable else "stream": True}
    answer = await _exchange(service, "POST", PATH, json.dumps(body).encode())
    if resumable:
        begun = json.loads(answer.partition(b"\r\n\r\n")[2])
        answer = await _exchange(service, "GET", begun["stream_url"], b"")
    if b'"finish_reason"' not in answer:
        sys.exit(f"a turn failed: {answer[-300:]!r}")


async def _exchange(service: ServiceUnderTest, method: str, target: str, body: bytes) -> bytes:
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Authorization: Bearer {service.key}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return answer


async def _writes(service: ServiceUnderTest) -> float:
    """Pieces written of each turn that runs, in a second."""
    database = Database(create_engine(service.database_url))
    tenant = await TenantService(database).named("default")
    first, turns = await _pieces(database, tenant.id)
    began = time.monotonic()
    await asyncio.sleep(_COUNTED_SECONDS)
    last, _ = await _pieces(database, tenant.id)
    seconds = time.monotonic() - began
    await database.close()
    return (last - first) / turns / seconds


async def _pieces(database: Database, tenant_id: str) -> tuple[int, int]:
    """How many there are, and of how many turns."""
    async with database.begin(tenant_id) as session:
        statement = select(func.count(), func.count(TurnChunk.turn_id.distinct())).select_from(TurnChunk)
        pieces, turns = (await session.execute(statement)).one()
    return pieces, turns


if __name__ == "__main__":
    sys.exit(main())
