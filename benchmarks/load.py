"""The load: questions asked by a number of streams, each with its next question as soon as it has an answer.

Streams are spread over client processes of their own, since one Python process that reads hundreds of streams becomes
the bottleneck that it is to measure. Times are `time.monotonic()` seconds, which processes of one machine share.
"""

import asyncio
import multiprocessing
import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import uvloop

# Until when every client process has its connections.
_HEAD_START_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request.

    Attributes:
        prompt: the user's message.
        prompt_ids: the same as the service renders it; empty where no engine is driven directly.
        max_tokens: new tokens at the most.
        temperature: 0 takes the most likely token.
        pause: seconds that the scripted engine takes by this prompt.
    """

    prompt: str
    prompt_ids: list[int]
    max_tokens: int
    temperature: float
    pause: float = 0.0


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came of a question.

    Attributes:
        started, ended: when it was sent, and when nothing more was to come.
        arrivals: when each piece of the answer came; a piece holds a token or more.
        prompt_tokens, cached_tokens, completion_tokens: usage, as the last event says.
        pause: seconds of it that the scripted engine did nothing.
        error: why the answer is not whole; None where it is.
    """

    started: float
    ended: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    pause: float = 0.0
    error: str | None = None

    @property
    def latency_ms(self) -> float:
        """Milliseconds from question to end, but for the pause."""
        return 1000 * (self.ended - self.started - self.pause)


Ask = Callable[[Question], Awaitable[Answer]]


class Side(Protocol):
    """One of the two ways to the engine: over HTTP, or directly. Sent to the client processes."""

    def streams(self, count: int) -> AbstractAsyncContextManager[list[Ask]]:
        """Connections over which as many questions can be asked at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """All answers to one round of questions.

    Attributes:
        client_busy: the largest share of a core that a client process took; near 1 the client is the bottleneck.
    """

    answers: list[Answer]
    client_busy: float

    @property
    def seconds(self) -> float:
        """From the first question to the last answer's end."""
        return max(one.ended for one in self.answers) - min(one.started for one in self.answers)

    @property
    def tokens(self) -> int:
        """Generated, of the answers that are whole."""
        return sum(one.completion_tokens for one in self.answers if one.error is None)

    @property
    def tokens_per_second(self) -> float:
        """Output only; the time for the prompts counts."""
        return self.tokens / self.seconds


class Clients:
    """The client processes, started when first needed and kept for all rounds."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))

    def ask(self, side: Side, questions: Sequence[Question], concurrency: int) -> Round:
        """One round, with this number of streams over all processes."""
        processes = min(self._processes, concurrency)
        begin_at = time.monotonic() + _HEAD_START_SECONDS
        shares = [
            self._pool.submit(
                _share, side, questions[one::processes], len(range(one, concurrency, processes)), begin_at
            )
            for one in range(processes)
        ]
        done = [share.result() for share in shares]
        return Round(answers=[answer for answers, _ in done for answer in answers], client_busy=max(b for _, b in done))

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)


def _share(side: Side, questions: Sequence[Question], streams: int, begin_at: float) -> tuple[list[Answer], float]:
    return uvloop.run(_ask_all(side, questions, streams, begin_at))


async def _ask_all(
    side: Side, questions: Sequence[Question], streams: int, begin_at: float
) -> tuple[list[Answer], float]:
    waiting = iter(questions)
    async with side.streams(streams) as asks:
        await asyncio.sleep(begin_at - time.monotonic())
        began, used = time.monotonic(), _cpu_seconds()
        answers = await asyncio.gather(*(_ask_in_turn(ask, waiting) for ask in asks))
        busy = (_cpu_seconds() - used) / (time.monotonic() - began)
    return [answer for stream in answers for answer in stream], busy


async def _ask_in_turn(ask: Ask, waiting: Iterator[Question]) -> list[Answer]:
    answers = []
    for question in waiting:
        answers.append(await ask(question))
        answers[-1].pause = question.pause
    return answers


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
