"""What the engine says of a sequence."""

from collections.abc import Iterator

from services.inference.engine import End, FinishReason, PromptLogprobs, TokenLogprobs
from services.inference.native.sequence import Chunk, Sequence


def scores_event(chunk: Chunk, scored: list[TokenLogprobs]) -> Iterator[PromptLogprobs]:
    """The log-probabilities of a prompt's tokens, of those that are new; nothing for none."""
    sequence = chunk.sequence
    # Put back while a step was under way, a sequence computes again what that step brings.
    new = scored[max(0, sequence.scored - chunk.scores.start) :]
    if new:
        sequence.scored += len(new)
        yield PromptLogprobs(sequence.request.id, new)


def end_event(sequence: Sequence, stop: TokenLogprobs | None, *, met: bool) -> End:
    """How an answer ended: `met` where the model or the constraint ended it, `stop` of the token that did."""
    request = sequence.request
    tokens = min(len(sequence.output), request.max_tokens)
    reason: FinishReason = "stop" if met and tokens else "length"
    return End(
        request.id,
        reason,
        len(request.prompt_ids),
        sequence.cached,
        tokens,
        sequence.index,
        sequence.output[-1] if stop is not None and tokens else None,
        stop if tokens else None,
    )
