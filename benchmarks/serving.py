"""What the service makes of its engine's speed: `python -m benchmarks.serving`.

Drives a running service (`--url`), or one it starts (`--start`), with streamed requests, and in the same run the same
engine directly over its socket (`--engine-socket`; always with `--start`). Rounds alternate between the two, since
machines are noisy: what counts is the ratio of each pair of rounds. Both sides of a pair ask the same prompts, which no
other pair asks, the engine under another tenant, so that no prefix cache helps either; at temperature 0 the answers are
equally long.

    python -m benchmarks.serving --start --model demo --concurrency 1,4,16 --max-tokens 64
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from app.version import VERSION
from benchmarks import processes, prompts
from benchmarks.arguments import parse
from benchmarks.direct_side import DirectSide, engine_limits
from benchmarks.http_side import HttpSide
from benchmarks.load import Clients, Question, Round, Side
from benchmarks.prompts import Prompts
from benchmarks.report import Level, Report, as_json, ratios, side_figures, table_end, table_head, table_level
from benchmarks.service_under_test import CannotStart, started
from services.inference.codec import Codec, Codecs
from services.inference.engine_refusal import EngineUnavailable
from services.inference.prompt import Message


class CannotMeasure(Exception):
    """The service does not answer as it should; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured; `codec` renders the prompts of the direct side."""

    http: HttpSide
    direct: DirectSide | None
    codec: Codec | None
    api_pid: int | None


def main() -> int:
    """Measure and report; the exit status is 1 where a request failed, 2 where nothing could be measured."""
    arguments = parse()
    # What was started is stopped, whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        # An interrupted round ends when the service does; only then can its clients be waited for.
        with closing(Clients(arguments.processes)) as clients, _subject(arguments) as subject:
            report = _report(arguments, subject, clients)
    except (CannotStart, CannotMeasure, EngineUnavailable, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.json == Path("-"):
        print(as_json(report))
    elif arguments.json is not None:
        arguments.json.write_text(as_json(report) + "\n")
    return 1 if report.errors else 0


@contextmanager
def _subject(arguments: argparse.Namespace) -> Iterator[Subject]:
    if not arguments.start:
        yield _reached(arguments, arguments.url, arguments.key, arguments.engine_socket, arguments.pid)
        return
    engine = [f"--engine={arguments.engine}", f"--model={arguments.model}", *arguments.engine_option]
    with started(
        engine_arguments=engine,
        max_running=max(arguments.concurrency),
        database_url=arguments.database_url,
        key=arguments.key,
    ) as service:
        yield _reached(arguments, service.url, service.key, service.engine_socket, service.api_pid)


def _reached(arguments: argparse.Namespace, url: str, key: str, socket: Path | None, pid: int | None) -> Subject:
    http = HttpSide(url=url, key=key, timeout=arguments.timeout)
    if socket is None:
        return Subject(http=http, direct=None, codec=None, api_pid=pid)

    async def codec() -> Codec:
        return await Codecs().of(await engine_limits(socket))

    loaded = asyncio.run(codec())
    direct = DirectSide(socket=socket, stop_ids=loaded.tokenizer.stop_ids, timeout=arguments.timeout)
    return Subject(http=http, direct=direct, codec=loaded, api_pid=pid)


def _report(arguments: argparse.Namespace, subject: Subject, clients: Clients) -> Report:
    if arguments.prompt is None:
        supply = prompts.of_tokens(arguments.prompt_tokens, lambda prompt: _count_tokens(subject, clients, prompt))
    else:
        supply = Prompts(arguments.prompt)
    # Standard output is for the JSON, if that is wanted there.
    table = sys.stderr if arguments.json == Path("-") else sys.stdout
    print(table_head(), file=table, flush=True)
    levels = []
    for concurrency in arguments.concurrency:
        levels.append(_level(arguments, subject, clients, supply, concurrency))
        print(table_level(levels[-1]), file=table, flush=True)
    pid = subject.api_pid
    secret = {"key", "database_url"}
    report = Report(
        version=VERSION,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cores=os.cpu_count() or 1,
        settings={name: value for name, value in vars(arguments).items() if name not in secret},
        levels=levels,
        api_peak_rss_mib=None if pid is None else processes.peak_rss_mib(pid),
        api_imported_torch=None if pid is None else processes.has_torch(pid),
    )
    print(table_end(report), file=table, flush=True)
    return report


def _count_tokens(subject: Subject, clients: Clients, prompt: str) -> int:
    question = Question(prompt=prompt, prompt_ids=[], max_tokens=1, temperature=0.0)
    (answer,) = clients.ask(subject.http, [question], 1).answers
    if answer.error is not None:
        raise CannotMeasure(f"{subject.http.url} does not answer: {answer.error}")
    return answer.prompt_tokens


def _level(
    arguments: argparse.Namespace, subject: Subject, clients: Clients, supply: Prompts, concurrency: int
) -> Level:
    def ask(side: Side, questions: list[Question]) -> Round:
        return clients.ask(side, questions, concurrency)

    requests = arguments.requests or max(4, concurrency)
    if arguments.warmup:
        warming = _questions(arguments, subject, supply, arguments.warmup * concurrency)
        for side in (subject.http, subject.direct):
            if side is not None:
                ask(side, warming)
    http, direct = list[Round](), list[Round]()
    api_seconds = 0.0
    for _ in range(arguments.rounds):
        questions = _questions(arguments, subject, supply, requests)
        before = _api_seconds(subject)
        http.append(ask(subject.http, questions))
        api_seconds += _api_seconds(subject) - before
        if subject.direct is not None:
            direct.append(ask(subject.direct, questions))
    each = ratios(http, direct)
    tokens = sum(one.tokens for one in http)
    return Level(
        concurrency=concurrency,
        http=side_figures(http),
        direct=side_figures(direct) if direct else None,
        ratios=each,
        ratio=median(each) if each else None,
        api_cpu_us_per_token=1e6 * api_seconds / tokens if subject.api_pid is not None and tokens else None,
        load_average=os.getloadavg()[0],
    )


def _questions(arguments: argparse.Namespace, subject: Subject, supply: Prompts, count: int) -> list[Question]:
    return [
        Question(
            prompt=prompt,
            prompt_ids=[] if subject.codec is None else subject.codec.renderer.render([Message("user", prompt)]),
            max_tokens=arguments.max_tokens,
            temperature=arguments.temperature,
        )
        for prompt in supply.take(count)
    ]


def _api_seconds(subject: Subject) -> float:
    return 0.0 if subject.api_pid is None else processes.cpu_seconds(subject.api_pid)


if __name__ == "__main__":
    sys.exit(main())
