"""The engine's loop: requests in, events out, one thread."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from services.inference.engine import (
    Delta,
    EngineLimits,
    Event,
    Failed,
    GenerationRequest,
    TokenLogprobs,
)
from services.inference.native.admission import fault
from services.inference.native.answers import Answers, Compiled, Compiler
from services.inference.native.errors import Damage
from services.inference.native.events import end_event, scores_event
from services.inference.native.scheduler import Scheduler
from services.inference.native.sequence import Chunk, Drawn, Sequence
from services.inference.occupancy import Occupancy
from services.inference.watchdog import Watchdog

_log = logging.getLogger(__name__)
_EXIT_STATUS = 70
# Steps in a row that are tried again in smaller ones when there is no memory for them.
_RETRIES = 4


class StepRunner(Protocol):
    """What computes a step; `runner.Runner` is the one that does it with a model."""

    @property
    def lookahead(self) -> int:
        """Steps worth starting before the one whose tokens are read: 1 where the device works on its own."""
        ...

    def launch(self, chunks: list[Chunk]) -> Callable[[], Drawn]:
        """Start a step; what is returned waits for it."""
        ...


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that is under way."""

    chunks: list[Chunk]
    drawn: Callable[[], Drawn]


def exit_process() -> None:
    """End the process at once. A device that is lost comes back only with a new one."""
    logging.shutdown()
    os._exit(_EXIT_STATUS)


class NativeCore:
    """Generates with a model of this process; implements `EngineCore`.

    Args:
        runner: computes the steps.
        scheduler: decides them.
        limits: of the model and its cache.
        compiler: makes matchers of constraints; None refuses them.
        damage: says what an error of the runner has broken.
        on_lost: called in the engine's thread when the runner is of no use any more, and when the loop itself breaks.
        watchdog: ends the process when a step hangs; None where there is none.
    """

    def __init__(
        self,
        runner: StepRunner,
        scheduler: Scheduler,
        limits: EngineLimits,
        *,
        compiler: Compiler | None = None,
        damage: Callable[[BaseException], Damage],
        on_lost: Callable[[], None] = exit_process,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._limits = limits
        self._damage = damage
        self._on_lost = on_lost
        self._watchdog = watchdog
        self._inbox: SimpleQueue[GenerationRequest | Compiled | str | None] = SimpleQueue()
        self._answers = Answers(scheduler, compiler, self._inbox.put)
        self._thread: threading.Thread | None = None
        self._under_way: deque[_Step] = deque()
        self._short = 0

    @property
    def limits(self) -> EngineLimits:
        """The model's limits."""
        return self._limits

    @property
    def occupancy(self) -> Occupancy:
        """Who runs and waits."""
        return self._scheduler.occupancy

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do, as far as the engine's thread has seen."""
        return self._drained and not self._answers.compiling

    @property
    def _drained(self) -> bool:
        return self._scheduler.idle and not self._under_way

    def start(self, emit: Callable[[list[Event]], None]) -> None:
        """Generate in a thread of its own, which calls `emit` once a step with all that step's events."""
        self._thread = threading.Thread(target=self._run, args=(emit,), name="native-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request; one that can never run ends as Failed."""
        self._inbox.put(request)

    def abort(self, request_id: str) -> None:
        """Stop a generation, queued or running."""
        self._inbox.put(request_id)

    def close(self) -> None:
        """Stop the thread after the step it is in; what runs is dropped."""
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join()
        self._answers.close()

    def _run(self, emit: Callable[[list[Event]], None]) -> None:
        try:
            self._loop(emit)
        except Exception:  # noqa: BLE001  whatever it was, the engine is gone
            # A thread that dies in silence would leave every caller waiting.
            _log.exception("the engine's loop broke")
            self._on_lost()
        finally:
            self._rest()

    def _loop(self, emit: Callable[[list[Event]], None]) -> None:
        while True:
            events: list[Event] = []
            if not self._receive(events, wait=True):
                return
            if self._watchdog is not None:
                self._watchdog.step()
            lost = self._step(events)
            if events:
                emit(events)
            if lost:
                self._on_lost()
                return

    def _receive(self, events: list[Event], *, wait: bool) -> bool:
        """Take what has arrived, if asked wait for it when there is nothing to do; False to stop."""
        while not self._inbox.empty() or (wait and self._drained and not events):
            if self._inbox.empty():
                self._rest()
            message = self._inbox.get()
            if message is None:
                return False
            if isinstance(message, str):
                self._answers.forget(message)
            else:
                self._accept(message, events)
        return True

    def _rest(self) -> None:
        if self._watchdog is not None:
            self._watchdog.rest()

    def _accept(self, message: GenerationRequest | Compiled, events: list[Event]) -> None:
        if isinstance(message, Compiled):
            if not self._answers.arrived(message):
                return
            request, template, wrong = message.request, message.template, message.fault
        else:
            request, template, wrong = message, None, fault(message, self._limits.vocabulary)
        if wrong is not None:
            events.append(Failed(request.id, "invalid_request", wrong, retryable=False))
            return
        try:
            self._answers.begin(request, template)
        except ValueError:
            _log.warning("request %s refused", request.id, exc_info=True)
            too_long = f"Prompt and answer do not fit the context window of {self._limits.context_window} tokens."
            events.append(Failed(request.id, "context_length_exceeded", too_long, retryable=False))

    def _step(self, events: list[Event]) -> bool:
        """Plan and start one step, and read the one before it; True when the runner is of no use any more."""
        plan = self._scheduler.plan(time.monotonic())
        for sequence in plan.expired:
            message = "The request waited too long for its turn."
            events.append(Failed(sequence.request.id, "deadline", message, retryable=True))
        if plan.chunks:
            try:
                self._under_way.append(_Step(plan.chunks, self._runner.launch(plan.chunks)))
                self._short = 0
            except Exception as error:  # noqa: BLE001  one bad step must not end the others
                if self._damage(error) == "memory" and self._short < _RETRIES:
                    self._short += 1
                    self._scheduler.take_back(plan.chunks)
                    _log.warning("no memory for a step of %d requests; it is tried in smaller ones", len(plan.chunks))
                    return False
                return self._broken(plan.chunks, error, events)
        if self._under_way and (not plan.chunks or len(self._under_way) > self._runner.lookahead):
            return self._read(self._under_way.popleft(), events)
        return False

    def _read(self, step: _Step, events: list[Event]) -> bool:
        try:
            drawn = step.drawn()
        except Exception as error:  # noqa: BLE001  likewise
            return self._broken(step.chunks, error, events)
        tokens, scores = iter(enumerate(drawn.tokens)), iter(drawn.scores)
        for chunk in step.chunks:
            place, token = next(tokens) if chunk.samples else (-1, None)
            scored = next(scores) if chunk.scores else []
            if chunk.sequence.ended:
                continue
            if scored:
                events.extend(scores_event(chunk, scored))
            if chunk.samples:
                chunk.sequence.drawing -= 1
                events.extend(self._advance(chunk, token, drawn.logprobs.get(place)))
            else:
                self._scheduler.done(chunk)
        return False

    def _broken(self, chunks: list[Chunk], error: Exception, events: list[Event]) -> bool:
        """Fail what was in a step that failed, or everything; True when the runner is of no use any more."""
        damage = self._damage(error)
        # Without memory for what was in the step, the next may have some; if not, only another process has.
        lost = damage == "device" or (damage == "memory" and self._short > _RETRIES)
        self._short += damage == "memory"
        _log.error("a step of %d requests failed", len(chunks), exc_info=error)
        everyone = [*self._scheduler.running, *self._scheduler.waiting]
        failed = everyone if lost else [chunk.sequence for chunk in chunks]
        # Those of one request end together: with the first that is failed here, the others have ended.
        events.extend(
            self._fail(sequence, "engine_lost" if lost else "generation_failed")
            for sequence in failed
            if not sequence.ended
        )
        return lost

    def _advance(self, chunk: Chunk, token: int | None, logprobs: TokenLogprobs | None) -> Iterator[Event]:
        """Append a drawn token; end the answer where it ends."""
        sequence, request, matcher = chunk.sequence, chunk.sequence.request, chunk.sequence.matcher
        if token is None or (matcher is not None and not matcher.accept(token)):
            _log.error("request %s: the model's output is not usable", request.id)
            yield self._fail(sequence, "generation_failed")
            return
        sequence.output.append(token)
        self._scheduler.done(chunk)
        stopped = token in request.sampling.stop_ids or (matcher is not None and token in matcher.stop_ids)
        if not stopped and request.max_tokens:
            first = len(sequence.output) == 1
            began = (sequence.cached, sequence.queued) if first else (0, 0.0)
            yield Delta(request.id, [token], sequence.index, None if logprobs is None else [logprobs], *began)
        if request.n > 1 and sequence.index == 0 and len(sequence.output) == 1:
            self._answers.branch(sequence)
        met = stopped or (matcher is not None and matcher.ended)
        if met or len(sequence.output) >= request.max_tokens:
            yield end_event(sequence, logprobs if stopped else None, met=met)
            self._answers.end(sequence)

    def _fail(self, sequence: Sequence, kind: str) -> Failed:
        self._answers.forget(sequence.request.id)
        return Failed(sequence.request.id, kind, "The engine could not finish this answer.", retryable=True)
