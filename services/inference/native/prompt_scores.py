"""Log-probabilities of a prompt's own tokens, chunk by chunk."""

from collections.abc import Callable

import torch

from services.inference.engine import TokenLogprobs
from services.inference.native.arrival import arriving
from services.inference.native.logprobs import Logprobs
from services.inference.native.sequence import Chunk

Scores = list[list[TokenLogprobs]]


def score(logits: torch.Tensor, chunks: list[Chunk]) -> Callable[[], Scores]:
    """Start to score prompts; what is returned waits for it, and has a list for each chunk.

    Args:
        logits: [tokens, vocabulary], of the chunks' `scores`, one chunk after the other.
        chunks: those that score, at least one.
    """
    successors: list[int] = []
    wanted: list[int] = []
    for chunk in chunks:
        request = chunk.sequence.request
        successors += request.prompt_ids[chunk.scores.start + 1 : chunk.scores.stop + 1]
        wanted += [request.sampling.prompt_logprobs or 0] * len(chunk.scores)
    logprobs = Logprobs(logits, wanted)
    sent = torch.tensor(successors, dtype=torch.int64, pin_memory=logits.device.type == "cuda")
    packed = arriving([logprobs.packed(sent.to(logits.device, non_blocking=True))])

    def scores() -> Scores:
        found = iter(logprobs.read(packed()[0]))
        return [[next(found) for _ in chunk.scores] for chunk in chunks]

    return scores
