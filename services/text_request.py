"""What a caller asks of a model that goes on with texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.inference.engine import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """Texts to go on with, each a turn of its own.

    Attributes:
        prompts: texts or token ids, at least one.
        max_tokens: new tokens of each answer at the most; 0 for none, where only the prompts are to be scored.
        sampling: without ids that end the answer.
        n: answers to each prompt.
        stops: texts before which an answer ends.
        ignore_eos: whether the model's own end of an answer does not end it.
        echo: whether each answer is given behind its prompt, with the log-probabilities of both if they are wanted.
        store: False keeps only numbers; None is for what the tenant's policy says.
        parameters: what the caller set, by the names of its route, for the log.
    """

    prompts: Sequence[str] | Sequence[Sequence[int]]
    endpoint: str
    parameters: dict[str, Any]
    max_tokens: int
    model: str | None = None
    user: str | None = None
    store: bool | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    n: int = 1
    stops: tuple[str, ...] = ()
    ignore_eos: bool = False
    echo: bool = False
