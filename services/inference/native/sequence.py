"""The state of one request inside the engine."""

from dataclasses import dataclass, field

from services.inference.engine import GenerationRequest


@dataclass(slots=True, eq=False)
class Sequence:
    """One request: its tokens so far and where they are cached.

    Attributes:
        request: what was asked.
        start: first token of its span in the cache; -1 while it waits.
        computed: tokens whose keys and values are in the cache.
        output: generated token ids, a final stop id included.
    """

    request: GenerationRequest
    start: int = -1
    computed: int = 0
    output: list[int] = field(default_factory=list)

    @property
    def span(self) -> int:
        """Cache tokens it can need at the most: prompt and answer."""
        return len(self.request.prompt_ids) + self.request.max_tokens

    @property
    def pending(self) -> int:
        """Tokens known but not yet computed: what is left of the prompt, or the one drawn last."""
        return len(self.request.prompt_ids) + len(self.output) - self.computed

    def next_ids(self, count: int) -> list[int]:
        """The next `count` token ids to compute, at most `pending`."""
        begin = self.computed - len(self.request.prompt_ids)
        if begin < 0:
            # Nothing has been drawn while the prompt is incomplete, so no chunk crosses into the output.
            return self.request.prompt_ids[self.computed : self.computed + count]
        return self.output[begin : begin + count]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one step computes of a sequence.

    Attributes:
        sequence: whose tokens.
        count: how many, at least 1.
    """

    sequence: Sequence
    count: int

    @property
    def samples(self) -> bool:
        """Whether the step draws a token after it: only when nothing of the sequence is left to compute."""
        return self.count == self.sequence.pending
