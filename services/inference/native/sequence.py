"""The state of one request inside the engine."""

from dataclasses import dataclass, field

from services.inference.engine import GenerationRequest
from services.inference.native.block_manager import block_key, root_key


@dataclass(slots=True, eq=False)
class Sequence:
    """One request: its tokens so far and where they are cached.

    Attributes:
        request: what was asked.
        output: generated token ids that have arrived, a final stop id included.
        slot: its seat among those that run, which it keeps from step to step; -1 while it waits.
        blocks: of the cache, in order.
        computed: tokens whose keys and values are in the cache, or will be after the steps that are under way.
        drawing: tokens that steps under way will draw.
        cached: prompt tokens that were found in the cache when it first ran; -1 before that.
        published: blocks that others may share.
        seatings: how often it was given a slot.
        ended: whether it was removed; what steps under way bring for it is of no use then.
    """

    request: GenerationRequest
    output: list[int] = field(default_factory=list)
    slot: int = -1
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    drawing: int = 0
    cached: int = -1
    published: int = 0
    seatings: int = 0
    ended: bool = False
    _keys: list[bytes] = field(default_factory=list)

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
        if len(self.output) + self.drawing >= self.request.max_tokens:
            return 0
        return self.known + self.drawing - self.computed

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
    """

    sequence: Sequence
    begin: int
    count: int
    slot: int
    seating: int
    samples: bool

    @property
    def end(self) -> int:
        """Tokens in the cache after it."""
        return self.begin + self.count
