"""The scripted engine: answers on command, for development and tests. Needs no model, no torch.

Its tokens are bytes. The last message of a user or a tool is the script if it is a JSON object, with any of the fields
of `Script`; any other message is answered with `You said: …`. All answers to a prompt are the same, each token is
certain, and no parameter of the sampling changes them.
"""

import heapq
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Annotated

from msgspec import DecodeError, Meta, Struct, ValidationError, json

from services.inference.engine import (
    Delta,
    End,
    EngineLimits,
    Event,
    Failed,
    FinishReason,
    GenerationRequest,
    PromptLogprobs,
    TokenLogprobs,
)
from services.inference.occupancy import Occupancy

CONTEXT_WINDOW = 8192
SPECIAL_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>")
FIRST_SPECIAL = 256
_END = FIRST_SPECIAL + SPECIAL_TOKENS.index("<|end|>")
_SCRIPTS = {FIRST_SPECIAL + SPECIAL_TOKENS.index(role) for role in ("<|user|>", "<|tool|>")}
# A request's id, and which of its answers.
_Answer = tuple[str, int]


class Script(Struct, frozen=True, forbid_unknown_fields=True):
    """What to answer and how.

    Attributes:
        say: the answer.
        hex: the answer as bytes, instead of `say`: for what is not text.
        repeat: how often it is said.
        rate: tokens a second; None for the engine's own.
        step: tokens in one step.
        pause: seconds before the first token.
        fail_after: tokens after which this generation fails; None for never.
        crash_after: tokens after which the engine's process dies; None for never.
    """

    say: str = ""
    hex: Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")] = ""
    repeat: Annotated[int, Meta(ge=0, le=10_000)] = 1
    rate: Annotated[float, Meta(ge=0.01, le=1e6)] | None = None
    step: Annotated[int, Meta(ge=1)] = 1
    pause: Annotated[float, Meta(ge=0.0, le=3600.0)] = 0.0
    fail_after: Annotated[int, Meta(ge=0)] | None = None
    crash_after: Annotated[int, Meta(ge=0)] | None = None


class ScriptedCore:
    """An `EngineCore` that plays scripts in real time."""

    def __init__(self, *, model: str = "scripted", rate: float = 50.0, max_running: int = 16) -> None:
        """`rate`: tokens a second of each answer, unless its script says otherwise."""
        self._limits = EngineLimits(
            model=model,
            context_window=CONTEXT_WINDOW,
            vocabulary=FIRST_SPECIAL + len(SPECIAL_TOKENS),
            tokenizer="",
            max_running=max_running,
        )
        self._rate = rate
        self._max_running = max_running
        # With the time since when, in monotonic seconds.
        self._waiting: deque[tuple[float, GenerationRequest]] = deque()
        # An event of None is the death of the process.
        self._running: dict[_Answer, Iterator[tuple[float, Event | None]]] = {}
        self._due: list[tuple[float, _Answer, Event | None]] = []
        self._changed = threading.Condition()
        self._hurried = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def limits(self) -> EngineLimits:
        """A context window of 8,192 bytes."""
        return self._limits

    @property
    def occupancy(self) -> Occupancy:
        """It has no cache."""
        return Occupancy(running=len(self._running), waiting=len(self._waiting))

    def start(self, emit: Callable[[list[Event]], None]) -> None:
        """Play in a thread of its own."""
        self._thread = threading.Thread(target=self._play, args=(emit,), name="scripted-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request."""
        with self._changed:
            self._waiting.append((time.monotonic(), request))
            self._changed.notify()

    def abort(self, request_id: str) -> None:
        """Stop a generation at once."""
        with self._changed:
            self._drop(request_id)
            self._waiting = deque(each for each in self._waiting if each[1].id != request_id)
            self._changed.notify()

    def hurry(self) -> None:
        """From now on take no time for anything, whatever the scripts say: for whoever waits for no time."""
        with self._changed:
            self._hurried = True
            self._changed.notify()

    def close(self) -> None:
        """Stop the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _play(self, emit: Callable[[list[Event]], None]) -> None:
        while True:
            with self._changed:
                events = self._step(time.monotonic())
                if self._closed:
                    return
                if not events:
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                    continue
            emit(events)

    def _step(self, now: float) -> list[Event]:
        events = list(self._begin(now))
        while self._due and (self._hurried or self._due[0][0] <= now):
            due, answer, event = heapq.heappop(self._due)
            if answer not in self._running:
                continue
            if event is None:
                os._exit(70)
            events.append(event)
            if isinstance(event, Delta | PromptLogprobs):
                self._schedule(answer, due)
            elif isinstance(event, End):
                del self._running[answer]
            else:
                self._drop(event.id)
        return events

    def _drop(self, request_id: str) -> None:
        for answer in [each for each in self._running if each[0] == request_id]:
            del self._running[answer]

    def _begin(self, now: float) -> Iterator[Event]:
        while self._waiting and len(self._running) < self._max_running:
            since, request = self._waiting.popleft()
            if request.deadline is not None and request.deadline < now:
                yield Failed(request.id, "deadline", "No place became free in time; try again.", retryable=True)
                continue
            script = _script(request.prompt_ids)
            for index in range(request.n):
                answer = request.id, index
                self._running[answer] = _events(request, index, script, script.rate or self._rate, now - since)
                self._schedule(answer, now + script.pause)

    def _schedule(self, answer: _Answer, after: float) -> None:
        delay, event = next(self._running[answer])
        heapq.heappush(self._due, (after + delay, answer, event))


def _script(prompt_ids: list[int]) -> Script:
    begin = next((at + 1 for at in reversed(range(len(prompt_ids))) if prompt_ids[at] in _SCRIPTS), 0)
    end = begin
    while end < len(prompt_ids) and prompt_ids[end] < FIRST_SPECIAL:
        end += 1
    text = bytes(prompt_ids[begin:end])
    try:
        return json.decode(text, type=Script)
    except (DecodeError, ValidationError):
        return Script(say="You said: " + text.decode("utf-8", "replace"))


def _events(
    request: GenerationRequest, index: int, script: Script, rate: float, queued: float
) -> Iterator[tuple[float, Event | None]]:
    if request.sampling.prompt_logprobs is not None and index == 0:
        scores = _certain(request.prompt_ids[1:], request.sampling.prompt_logprobs)
        yield 0.0, PromptLogprobs(request.id, scores)
    answer = (bytes.fromhex(script.hex) or script.say.encode()) * script.repeat
    # Not a list: of a long answer that would take eight times as much, for each that runs.
    tokens = answer[: request.max_tokens]
    for at in range(0, len(tokens), script.step):
        if (broken := _breaks(request, script, at)) is not None:
            yield broken
            return
        step = list(tokens[at : at + script.step])
        yield len(step) / rate, Delta(request.id, step, index, _logprobs(request, step), 0, 0.0 if at else queued)
    if (broken := _breaks(request, script, len(tokens))) is not None:
        yield broken
        return
    stopped = len(answer) < request.max_tokens
    reason: FinishReason = "stop" if stopped else "length"
    stop = _logprobs(request, [_END]) if stopped else None
    end = (_END, stop[0]) if stop else (None, None)
    yield 0.0, End(request.id, reason, len(request.prompt_ids), 0, len(tokens) + stopped, index, *end)


def _logprobs(request: GenerationRequest, tokens: list[int]) -> list[TokenLogprobs] | None:
    wanted = request.sampling.logprobs
    return None if wanted is None else _certain(tokens, wanted)


def _certain(tokens: list[int], wanted: int) -> list[TokenLogprobs]:
    return [TokenLogprobs(0.0, [(token, 0.0)][:wanted]) for token in tokens]


def _breaks(request: GenerationRequest, script: Script, at: int) -> tuple[float, Event | None] | None:
    if script.crash_after is not None and at >= script.crash_after:
        return 0.0, None
    if script.fail_after is not None and at >= script.fail_after:
        return 0.0, Failed(request.id, "generation_failed", "The script says so.", retryable=True)
    return None
