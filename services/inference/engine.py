"""The engine seam: what generates tokens, seen from outside. Token ids and numbers only: no text, no HTTP, no SQL.

The types are msgspec structs because they also travel between the API's process and the engine's.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from msgspec import Struct, field

from services.inference.occupancy import Occupancy

FinishReason = Literal["stop", "length"]


class JsonSchema(Struct, frozen=True, tag=True):
    """The answer is JSON that a schema (its text) allows; `{"type": "object"}` allows any object."""

    schema: str


class Regex(Struct, frozen=True, tag=True):
    """The answer matches a regular expression from its first character to its last."""

    pattern: str


class Grammar(Struct, frozen=True, tag=True):
    """The answer is what a grammar derives, in llguidance's dialect of Lark."""

    text: str


Constraint = JsonSchema | Regex | Grammar


class SamplingParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is drawn.

    The logits are constrained, then changed by `logit_bias`, `repetition_penalty`, frequency and presence penalty, then
    divided by the temperature and cut by top_k, by top_p of what that leaves, and by min_p.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token.
        top_p: keeps the smallest set of tokens whose probabilities reach it, in (0, 1].
        top_k: keeps the k most likely tokens; 0 keeps all.
        min_p: keeps the tokens at least so likely as this part of the likeliest, in [0, 1].
        seed: the same one draws the same tokens from the same logits, whatever else runs; None for a random one.
        repetition_penalty: divides the positive logits of tokens that prompt or answer hold, multiplies negative ones.
        frequency_penalty: taken from a token's logit for each time the answer holds it.
        presence_penalty: taken once from the logit of a token that the answer holds.
        logit_bias: added to logits, by token id.
        stop_ids: token ids that end the answer; they are counted, not delivered.
        logprobs: how many alternatives to report for each token, with its own log-probability; None for neither.
        prompt_logprobs: the same for the tokens of the prompt, which are then computed even where they are cached.
        constraint: what the answer must be; None for anything.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    constraint: Constraint | None = None


class GenerationRequest(Struct, frozen=True, kw_only=True):
    """One or several answers to a prompt.

    Attributes:
        id: the caller's, unique among what is running.
        tenant: whom it is for: the unit of fairness and of prefix sharing.
        prompt_ids: token ids, at least one.
        max_tokens: new tokens of each answer at the most; 0 only computes the prompt.
        n: answers, drawn independently of each other.
        weight: the tenant's part of the engine when others want it too, above 0; the latest request's counts.
        max_places: how many places the tenant may hold at once, this one included; None for what the queue allows.
        group: the same for requests that begin together or not at all; None for one that stands alone.
        deadline: latest start, `time.monotonic()` seconds, which processes of one machine share; None for no limit.
    """

    id: str
    tenant: str
    prompt_ids: list[int]
    max_tokens: int
    n: int = 1
    sampling: SamplingParams = field(default_factory=SamplingParams)
    weight: float = 1.0
    max_places: int | None = None
    group: str | None = None
    deadline: float | None = None


class TokenLogprobs(Struct, frozen=True, array_like=True):
    """Natural logarithms of probabilities as the model gave them, before anything of SamplingParams changed them.

    Attributes:
        logprob: of the token that is there.
        alternatives: the likeliest token ids and theirs, likeliest first.
    """

    logprob: float
    alternatives: list[tuple[int, float]]


class Delta(Struct, frozen=True, tag=True, omit_defaults=True):
    """New tokens of one answer, in order.

    Attributes:
        index: which of the request's answers, from 0.
        logprobs: one for each token, if the request asked for them.
        cached_tokens: in an answer's first: how many of the prompt's tokens were reused.
        queue_seconds: in an answer's first: how long the request waited in the engine.
    """

    id: str
    token_ids: list[int]
    index: int = 0
    logprobs: list[TokenLogprobs] | None = None
    cached_tokens: int = 0
    queue_seconds: float = 0.0


class PromptLogprobs(Struct, frozen=True, tag=True):
    """Of the prompt's tokens from the second on, in order; in parts, all of them before the first Delta or End."""

    id: str
    logprobs: list[TokenLogprobs]


class End(Struct, frozen=True, tag=True, omit_defaults=True):
    """The last event of an answer that ended well.

    Attributes:
        reason: `stop` at a stop id or where the constraint is met and nothing can follow, `length` at `max_tokens`.
        prompt_tokens, cached_tokens: of the request; `cached_tokens` of the prompt were reused.
        completion_tokens: of this answer.
        index: which of the request's answers, from 0.
        stop_id: that ended it, and was not delivered, if the request asked for log-probabilities.
        stop_logprobs: its own.
    """

    id: str
    reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    index: int = 0
    stop_id: int | None = None
    stop_logprobs: TokenLogprobs | None = None


_NEVER_STARTED = frozenset({"deadline", "invalid_request", "context_length_exceeded"})


class Failed(Struct, frozen=True, tag=True, omit_defaults=True):
    """The last event of a generation, with all its answers, that did not end well.

    Attributes:
        kind: stable code: `deadline` (never started), `engine_lost` (the engine died), `generation_failed`,
            `invalid_request`, `context_length_exceeded`.
        message: for the caller; no internals.
        retryable: whether the same request may succeed later.
        retry_after: after how many seconds it makes sense, where that is known.
    """

    id: str
    kind: str
    message: str
    retryable: bool
    retry_after: float | None = None

    @property
    def started(self) -> bool:
        """Whether anything may have been computed for it."""
        return self.kind not in _NEVER_STARTED


Event = Delta | PromptLogprobs | End | Failed


class EngineLimits(Struct, frozen=True, kw_only=True):
    """What the engine can hold: enough to refuse what can never fit, and to make and read its token ids.

    Attributes:
        model: the model's name or path, as configured.
        context_window: tokens of prompt and answer together.
        vocabulary: number of token ids.
        max_running: answers generated at once.
        tokenizer: directory with the tokenizer's and the chat template's files; empty for the scripted engine's bytes.
        demo: whether this is the bundled demo model, which users should be told about.
        most_places: how many places of the queue one tenant can hold at once; None where that is not known.
        most_tokens: of prompts and longest answers that it can hold in several of them.
    """

    model: str
    context_window: int
    vocabulary: int
    tokenizer: str
    max_running: int = 16
    demo: bool = False
    most_places: int | None = None
    most_tokens: int | None = None


class Health(Struct, frozen=True, kw_only=True):
    """Whether the engine can answer now; `detail` says in a sentence what it does instead."""

    ready: bool
    detail: str


class Generation(Protocol):
    """A place in the engine's queue."""

    def start(self, hear: Callable[[Event], None]) -> None:
        """Take it up, once. `hear` is called with each event, in order, until one End for each answer, or a Failed.

        It is called by whoever receives the events of everybody, so it must be quick and must not raise.
        """
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
    Every submitted generation ends with exactly one End for each answer, or one Failed, unless it was aborted: then
    nothing more comes of it within two steps.
    """

    @property
    def limits(self) -> EngineLimits:
        """Known once the core is constructed."""
        ...

    @property
    def occupancy(self) -> Occupancy:
        """What it is doing, from any thread."""
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
