"""The engine seam: what generates tokens, seen from outside. Token ids and numbers only: no text, no HTTP, no SQL.

The types are msgspec structs because they also travel between the API's process and the engine's.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from msgspec import Struct, field

FinishReason = Literal["stop", "length"]


class SamplingParams(Struct, frozen=True, kw_only=True):
    """How the next token is drawn.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token.
        top_p: keeps the smallest set of tokens whose probabilities reach it, in (0, 1].
        top_k: keeps the k most likely tokens; 0 keeps all.
        stop_ids: token ids that end the answer; they are counted, not delivered.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop_ids: frozenset[int] = frozenset()


class GenerationRequest(Struct, frozen=True, kw_only=True):
    """One answer to be generated.

    Attributes:
        id: the caller's, unique among what is running.
        tenant: whom it is for: the unit of fairness and of prefix sharing.
        prompt_ids: token ids, at least one.
        max_tokens: new tokens at the most, at least 1.
        weight: the tenant's part of the engine when others want it too, above 0; the latest request's counts.
        deadline: latest start, `time.monotonic()` seconds, which processes of one machine share; None for no limit.
    """

    id: str
    tenant: str
    prompt_ids: list[int]
    max_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    weight: float = 1.0
    deadline: float | None = None


class Delta(Struct, frozen=True, tag=True):
    """New tokens of one generation, in order."""

    id: str
    token_ids: list[int]


class End(Struct, frozen=True, tag=True):
    """The last event of a generation that ended well.

    Attributes:
        reason: `stop` at a stop id, `length` at `max_tokens`.
        prompt_tokens, cached_tokens, completion_tokens: usage; `cached_tokens` of the prompt were reused.
    """

    id: str
    reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Failed(Struct, frozen=True, tag=True):
    """The last event of a generation that did not end well.

    Attributes:
        kind: stable code: `deadline` (never started), `engine_lost` (the engine died), `generation_failed`, ….
        message: for the caller; no internals.
        retryable: whether the same request may succeed later.
    """

    id: str
    kind: str
    message: str
    retryable: bool


Event = Delta | End | Failed


class EngineLimits(Struct, frozen=True, kw_only=True):
    """What the engine can hold: enough to refuse what can never fit, and to make and read its token ids.

    Attributes:
        model: the model's name or path, as configured.
        context_window: tokens of prompt and answer together.
        vocabulary: number of token ids.
        tokenizer: directory with the tokenizer's and the chat template's files; empty for the scripted engine's bytes.
        demo: whether this is the bundled demo model, which users should be told about.
    """

    model: str
    context_window: int
    vocabulary: int
    tokenizer: str
    demo: bool = False


class EngineOverloaded(Exception):
    """The queue is full. `retry_after`: seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class EngineUnavailable(Exception):
    """The engine is loading, gone or restarting. `retry_after`: seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Health(Struct, frozen=True, kw_only=True):
    """Whether the engine can answer now; `detail` says in a sentence what it does instead."""

    ready: bool
    detail: str


class Generation(Protocol):
    """A place in the engine's queue. `events` takes it up and may be called once; the last event is End or Failed."""

    def events(self) -> AsyncIterator[Event]:
        """Start, and yield what is generated."""
        ...


class Engine(Protocol):
    """What the services know of an engine."""

    @property
    def limits(self) -> EngineLimits:
        """The engine's limits. Raises EngineUnavailable until the engine has been ready once."""
        ...

    def admit(self, request: GenerationRequest) -> AbstractAsyncContextManager[Generation]:
        """A place in the queue; leaving the context aborts what runs and frees it.

        Raises EngineOverloaded or EngineUnavailable on entering.
        """
        ...

    async def health(self) -> Health:
        """Whether it can answer now."""
        ...


class EngineCore(Protocol):
    """What generates, inside the engine's own process. `services.inference.engine_server` puts it on a socket.

    `submit` and `abort` may be called from any thread and return at once; both are idempotent on ids that have ended.
    Every submitted generation ends with exactly one End or Failed, unless it was aborted: then nothing more comes of it
    within two steps.
    """

    @property
    def limits(self) -> EngineLimits:
        """Known once the core is constructed."""
        ...

    def start(self, emit: Callable[[list[Event]], None]) -> None:
        """Generate in a thread of its own, which calls `emit` once a step with all that step's events."""
        ...

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request that fits the limits."""
        ...

    def abort(self, request_id: str) -> None:
        """Stop a generation, queued or running."""
        ...

    def close(self) -> None:
        """Stop the thread; what runs is dropped."""
        ...
