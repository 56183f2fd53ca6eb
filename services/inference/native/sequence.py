"""The state of one request inside the engine."""

import secrets
from dataclasses import dataclass, field
from typing import Protocol

from services.inference.engine import GenerationRequest, TokenLogprobs
from services.inference.native.block_manager import block_key, root_key


class Matcher(Protocol):
    """What an answer may go on with. It changes with every token, so that the token after has to wait for it.

    Attributes:
        stop_ids: token ids that end the answer where it may end.
        ended: whether nothing may follow.
    """

    stop_ids: frozenset[int]
    ended: bool

    def accept(self, token: int) -> bool:
        """Take note of a token; False if it was not allowed."""
        ...

    def copy(self) -> "Matcher":
        """Another one at the same place."""
        ...


# Between the seeds of a request's answers, so that neighbouring seeds do not share answers.
_FAR = 0xD1B54A32D192ED03


def answer_id(request_id: str, index: int) -> str:
    """The id of one of a request's answers."""
    return f"{request_id}\0{index}" if index else request_id


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer: its tokens so far and where they are cached.

    Attributes:
        request: what was asked.
        index: which of the request's answers.
        matcher: of a request with a constraint.
        seed: of its sampling.
        output: generated token ids that have arrived, a final stop id included.
        slot: its seat among those that run, which it keeps from step to step; -1 while it waits.
        blocks: of the cache, in order.
        computed: tokens whose keys and values are in the cache, or will be after the steps that are under way.
        drawing: tokens that steps under way will draw.
        cached: prompt tokens that were found in the cache when it first ran; -1 before that.
        arrived: when it came, in monotonic seconds.
        queued: how many seconds it had waited when it first ran.
        scored: tokens of the prompt whose successor's log-probability has arrived.
        published: blocks that others may share.
        seatings: how often it was given a slot.
        ended: whether it was removed; what steps under way bring for it is of no use then.
    """

    request: GenerationRequest
    index: int = 0
    matcher: Matcher | None = None
    seed: int = field(init=False)
    output: list[int] = field(default_factory=list)
    slot: int = -1
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    drawing: int = 0
    cached: int = -1
    arrived: float = 0.0
    queued: float = 0.0
    scored: int = 0
    published: int = 0
    seatings: int = 0
    ended: bool = False
    _keys: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        seed = self.request.sampling.seed
        self.seed = secrets.randbits(64) if seed is None else seed + _FAR * self.index

    @property
    def id(self) -> str:
        """The request's id for its first answer; unlike any other for the others."""
        return answer_id(self.request.id, self.index)

    @property
    def known(self) -> int:
        """Tokens whose ids are known."""
        return len(self.request.prompt_ids) + len(self.output)

    @property
    def span(self) -> int:
        """Tokens it can have at the most: prompt and answer."""
        return len(self.request.prompt_ids) + self.request.max_tokens

    @property
    def pending(self) -> int:
        """Tokens to compute next: what is left of the prompt, or the one drawn last. 0 when nothing may be drawn."""
        # After a prompt that is only computed a token is drawn all the same, which nobody sees.
        most = self.request.max_tokens or 1
        if len(self.output) + self.drawing >= most or (self.drawing and self.matcher is not None):
            return 0
        return self.known + self.drawing - self.computed

    @property
    def sharable(self) -> int:
        """Tokens that need not be computed if they are in the cache: not those after which something is wanted."""
        return min(self.known - 1, self.scored) if self._unscored(self.scored) else self.known - 1

    def scores(self, count: int) -> range:
        """Of the next `count` tokens, those whose successor's log-probability is wanted."""
        first = max(self.computed, self.scored)
        return range(first, min(self.computed + count, first + self._unscored(first)))

    def begin(self, count: int) -> "Chunk":
        """The next so many tokens, which count as computed from now on."""
        samples = count == self.pending
        chunk = Chunk(self, self.computed, count, self.slot, self.seatings, samples, self.scores(count))
        self.computed += count
        self.drawing += samples
        return chunk

    def is_late(self, now: float) -> bool:
        """Whether it should have begun before, in monotonic seconds."""
        return self.request.deadline is not None and now > self.request.deadline

    def _unscored(self, first: int) -> int:
        wanted = self.request.sampling.prompt_logprobs is not None and self.index == 0
        return max(0, len(self.request.prompt_ids) - 1 - first) if wanted else 0

    def ids(self, begin: int, end: int) -> list[int]:
        """The known ones of its tokens from `begin` to `end`."""
        prompt = self.request.prompt_ids
        if end <= len(prompt):
            return prompt[begin:end]
        answer = self.output[max(0, begin - len(prompt)) : end - len(prompt)]
        return prompt[begin:] + answer if begin < len(prompt) else answer

    def keys(self, blocks: int, size: int) -> list[bytes]:
        """The keys of its first blocks, whose tokens must be known."""
        while len(self._keys) < blocks:
            start = len(self._keys) * size
            parent = self._keys[-1] if self._keys else root_key(self.request.tenant)
            self._keys.append(block_key(parent, self.ids(start, start + size)))
        return self._keys[:blocks]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one step computes of a sequence.

    Attributes:
        sequence: whose tokens.
        begin: the first of them.
        count: how many, at least 1.
        slot: the sequence's seat in this step.
        seating: which of its times in a seat this is.
        samples: whether a token is drawn after it: only when nothing of the sequence is left to compute.
        scores: those of its tokens, all of the prompt, whose successor's log-probability is wanted.
    """

    sequence: Sequence
    begin: int
    count: int
    slot: int
    seating: int
    samples: bool
    scores: range = range(0)

    @property
    def end(self) -> int:
        """Tokens in the cache after it."""
        return self.begin + self.count


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a step brought.

    Attributes:
        tokens: of each chunk that samples, in order; None where the model's output was not usable.
        logprobs: by place in `tokens`, of those that asked for them.
        scores: of each chunk that scores, in order, one for each of its `scores`.
    """

    tokens: list[int | None]
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)
    scores: list[list[TokenLogprobs]] = field(default_factory=list)
