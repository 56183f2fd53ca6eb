"""The engine itself, over its Unix socket, as the API process drives it: no HTTP, no text, no rows."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from benchmarks.load import Answer, Ask, Question
from services.inference.engine import Delta, End, EngineLimits, Event, Failed, GenerationRequest, SamplingParams
from services.inference.engine_client import EngineClient
from services.inference.engine_refusal import EngineOverloaded, EngineUnavailable

# Not the tenant of the HTTP requests: an engine that shares prompts within a tenant must not know these already.
_TENANT = "benchmark"
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSide:
    """A running engine.

    Attributes:
        socket: where it listens.
        stop_ids: token ids that end an answer.
        timeout: seconds for a whole answer.
    """

    socket: Path
    stop_ids: frozenset[int]
    timeout: float

    @asynccontextmanager
    async def streams(self, count: int) -> AsyncIterator[list[Ask]]:
        """One connection for all streams, as the API process has."""
        async with _connected(self.socket) as engine:

            async def ask(question: Question) -> Answer:
                return await self._ask(engine, question)

            yield [ask] * count

    async def _ask(self, engine: EngineClient, question: Question) -> Answer:
        request = GenerationRequest(
            id=uuid4().hex,
            tenant=_TENANT,
            prompt_ids=question.prompt_ids,
            max_tokens=question.max_tokens,
            sampling=SamplingParams(temperature=question.temperature, stop_ids=self.stop_ids),
        )
        answer = Answer(started=time.monotonic())
        try:
            async with asyncio.timeout(self.timeout):
                await _read(engine, request, answer)
        except (EngineOverloaded, EngineUnavailable) as refusal:
            answer.error = refusal.message
        except TimeoutError:
            answer.error = f"no end within {self.timeout:g} s"
        answer.ended = time.monotonic()
        return answer


async def engine_limits(socket: Path) -> EngineLimits:
    """What a running engine can hold. Raises EngineUnavailable if it cannot be reached or is not ready."""
    async with _connected(socket) as engine:
        return engine.limits


@asynccontextmanager
async def _connected(socket: Path) -> AsyncIterator[EngineClient]:
    engine = EngineClient(socket)
    running = asyncio.create_task(engine.run())
    try:
        give_up = time.monotonic() + _CONNECT_SECONDS
        while not (health := await engine.health()).ready:
            if time.monotonic() > give_up:
                raise EngineUnavailable(f"{socket}: {health.detail}", 0)
            await asyncio.sleep(0.01)
        yield engine
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def _read(engine: EngineClient, request: GenerationRequest, answer: Answer) -> None:
    ended = asyncio.Event()

    def hear(event: Event) -> None:
        match event:
            case Delta():
                answer.arrivals.append(time.monotonic())
            case End():
                answer.prompt_tokens = event.prompt_tokens
                answer.cached_tokens = event.cached_tokens
                answer.completion_tokens = event.completion_tokens
                ended.set()
            case Failed():
                answer.error = f"{event.kind}: {event.message}"
                ended.set()

    async with engine.admit(request) as generation:
        generation.start(hear)
        await ended.wait()
