"""What a turn costs besides the model: `python -m benchmarks.gateway`.

Starts the scripted engine, which answers one token at once, and a service with authentication, limits and both commits,
on a PostgreSQL of its own with fsync (`--postgres`), on one that is migrated and has no tenant yet (`--database-url`),
or on a new SQLite file. Rounds over HTTP alternate with rounds on the engine directly; the difference of their medians
is the latency that the service adds.

    python -m benchmarks.gateway --postgres --fill 1000000

Clients ask again at once. `64@0.2` is 64 of them whose answers take the engine 0.1 to 0.3 s, which no latency counts:
without that, they wait in a row for the one process, and their latency says what a turn costs it, times 64.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Self

from benchmarks import processes
from benchmarks.direct_side import DirectSide, engine_limits
from benchmarks.gateway_database import commit_ms, prepare, wait_for_statistics
from benchmarks.http_side import HttpSide
from benchmarks.litellm_proxy import compare
from benchmarks.load import Clients, Question, Round
from benchmarks.own_postgres import own_postgres
from benchmarks.service_under_test import CannotStart, ServiceUnderTest, started
from services.inference.codec import Codecs
from services.inference.prompt import Message
from tests.conftest import as_owner

_HEAD = (
    "| at once | engine's pause, s | added p50, ms | HTTP p50 / p99, ms | direct p50, ms | a commit p50, ms | "
    "turns/s (rounds) | API time a turn, ms | turns/s of a core | load average |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)
# Parts of a pause, in no order: neighbours ask one after the other.
_SPREAD = (1.0, 0.53, 1.41, 0.78, 1.22, 0.59, 1.47, 0.91, 1.16, 0.66, 1.34, 0.84, 1.28, 0.72, 1.09)
# Enough for PostgreSQL to look at every table.
_FIRST = 300


@dataclass(frozen=True, slots=True)
class Load:
    """So many clients at once, whose answers take the engine so many seconds, more or less by a half."""

    at_once: int
    pause: float

    @classmethod
    def of(cls, given: str) -> Self:
        """`64` or `64@0.2`. Raises ValueError."""
        at_once, _, pause = given.partition("@")
        return cls(int(at_once), float(pause or 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One load: medians of rounds, milliseconds."""

    load: Load
    http: list[Round]
    direct: list[Round]
    api_ms: float
    commit_ms: float

    def line(self) -> str:
        """A row of the table."""
        http, direct = (_latencies(rounds) for rounds in (self.http, self.direct))
        rates = [len(one.answers) / one.seconds for one in self.http]
        each = ", ".join(f"{rate:.0f}" for rate in rates)
        return (
            f"| {self.load.at_once} | {self.load.pause:g} | {median(http) - median(direct):.2f} | "
            f"{median(http):.2f} / {_p99(http):.1f} | {median(direct):.2f} | {self.commit_ms:.2f} | "
            f"{median(rates):.0f} ({each}) | {self.api_ms:.2f} | {1000 / self.api_ms:.0f} | {os.getloadavg()[0]:.1f} |"
        )


def main() -> int:
    """Measure and print a table; the exit status is 1 where a request failed, 2 where nothing could be measured."""
    arguments = _arguments()
    # What was started is stopped, whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with (
            closing(Clients(1)) as clients,
            _database(arguments) as (database_url, migration_database_url),
            started(
                engine_arguments=["--engine=scripted", "--scripted-rate=100000"],
                max_running=max(load.at_once for load in arguments.concurrency),
                database_url=database_url,
                migration_database_url=migration_database_url,
                key=None,
                database_pool=arguments.pool,
            ) as service,
        ):
            asyncio.run(prepare(service.database_url, arguments.fill))
            levels = _measure(arguments, service, clients)
            if arguments.litellm is not None:
                compare(
                    arguments.litellm,
                    clients,
                    [load.at_once for load in arguments.concurrency if not load.pause],
                    requests=arguments.requests,
                    rounds=arguments.rounds,
                )
    except (CannotStart, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    answers = [answer for level in levels for one in level.http + level.direct for answer in one.answers]
    errors = {answer.error for answer in answers} - {None}
    print("\n".join(str(error) for error in errors))
    return 1 if errors else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    database = parser.add_mutually_exclusive_group()
    database.add_argument("--postgres", action="store_true", help="a PostgreSQL of the benchmark's own, with fsync")
    database.add_argument("--database-url", help="migrated and without a tenant; default: a new SQLite file")
    parser.add_argument("--fill", type=int, default=0, help="turns that are in the tables before; PostgreSQL only")
    parser.add_argument("--pool", type=int, default=10, help="the service's connections")
    parser.add_argument(
        "--concurrency",
        type=lambda given: [Load.of(one) for one in given.split(",")],
        default=[Load(1, 0), Load(16, 0), Load(64, 0), Load(64, 0.2)],
        help="clients at once, and after @ seconds until the engine answers; default: 1,16,64,64@0.2",
    )
    parser.add_argument("--requests", type=int, default=500, help="in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--litellm", type=Path, help="executable of LiteLLM's proxy, to be measured in the same run")
    parsed = parser.parse_args()
    if parsed.fill and not (parsed.postgres or (parsed.database_url or "").startswith("postgres")):
        parser.error("--fill needs PostgreSQL")
    return parsed


@contextmanager
def _database(arguments: argparse.Namespace) -> Iterator[tuple[str | None, str | None]]:
    """The service's database, and the same for the role that migrates it."""
    if arguments.postgres:
        with own_postgres() as url:
            yield url, as_owner(url)
    else:
        yield arguments.database_url, None


def _measure(arguments: argparse.Namespace, service: ServiceUnderTest, clients: Clients) -> list[Level]:
    sides = (
        HttpSide(url=service.url, key=service.key, timeout=60),
        DirectSide(socket=service.engine_socket, stop_ids=frozenset(), timeout=60),
    )
    clients.ask(sides[0], asyncio.run(_questions(service, Load(1, 0))) * _FIRST, 1)
    if not asyncio.run(wait_for_statistics(service.database_url)):
        raise CannotStart("PostgreSQL does not look at its tables: is autovacuum off?")
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {arguments.fill} turns before")
    print(_HEAD)
    levels = []
    for load in arguments.concurrency:
        levels.append(_level(arguments, load, service, clients, sides))
        print(levels[-1].line(), flush=True)
    return levels


def _level(
    arguments: argparse.Namespace,
    load: Load,
    service: ServiceUnderTest,
    clients: Clients,
    sides: tuple[HttpSide, DirectSide],
) -> Level:
    http, direct = sides
    questions = asyncio.run(_questions(service, load))
    asked = (questions * arguments.requests)[: arguments.requests]
    clients.ask(http, (questions * arguments.requests)[: 2 * load.at_once + 20], load.at_once)
    rounds: tuple[list[Round], list[Round]] = [], []
    seconds = 0.0
    for _ in range(arguments.rounds):
        before = processes.cpu_seconds(service.api_pid)
        rounds[0].append(clients.ask(http, asked, load.at_once))
        seconds += processes.cpu_seconds(service.api_pid) - before
        rounds[1].append(clients.ask(direct, asked, load.at_once))
    api_ms = 1000 * seconds / (arguments.rounds * arguments.requests)
    commit = asyncio.run(commit_ms(service.database_url))
    return Level(load=load, http=rounds[0], direct=rounds[1], api_ms=api_ms, commit_ms=commit)


async def _questions(service: ServiceUnderTest, load: Load) -> list[Question]:
    """One, or several whose pauses differ: else all clients would come back in the same moment, for ever."""
    codec = await Codecs().of(await engine_limits(service.engine_socket))
    questions = []
    for part in _SPREAD if load.pause else (1.0,):
        prompt = json.dumps({"say": "a", "pause": round(load.pause * part, 6)})
        ids = codec.renderer.render([Message("user", prompt)])
        pause = load.pause * part
        questions.append(Question(prompt=prompt, prompt_ids=ids, max_tokens=1, temperature=0.0, pause=pause))
    return questions


def _latencies(rounds: list[Round]) -> list[float]:
    return [answer.latency_ms for one in rounds for answer in one.answers]


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


if __name__ == "__main__":
    sys.exit(main())
