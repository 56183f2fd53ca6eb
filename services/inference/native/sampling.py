"""Drawing the next tokens of a step, each row by its own parameters."""

from collections.abc import Sequence

import torch

from services.inference.engine import SamplingParams

# Below it the division of the logits overflows, and the draw is the most likely token anyway.
_GREEDY_BELOW = 1e-4
# top_p rarely needs more of the vocabulary than this; sorting all of it costs more than the rest of the draw.
_CANDIDATES = 1024


def sample(
    logits: torch.Tensor, params: Sequence[SamplingParams], generator: torch.Generator | None = None
) -> list[int | None]:
    """Draw one token a row: the logits are divided by the temperature, then cut by top_k, then by top_p.

    Args:
        logits: float32 [rows, vocabulary]; -inf excludes a token.
        params: of each row.
        generator: source of randomness, on the logits' device; None for torch's own.

    Returns:
        Token ids; None for a row whose logits are not usable (NaN, +inf, or everything excluded).
    """
    # The largest value is NaN or infinite exactly when the row is not usable, at a fraction of a look at every value.
    usable = torch.isfinite(logits.amax(-1))
    tokens = logits.argmax(-1)
    drawn = [index for index, each in enumerate(params) if each.temperature >= _GREEDY_BELOW]
    for rows in _alike(drawn, params):
        index = torch.tensor(rows, device=logits.device)
        chosen = logits if len(rows) == len(params) else logits[index]
        tokens[index] = _draw(torch.nan_to_num(chosen), [params[row] for row in rows], generator)
    return [token if fine else None for token, fine in zip(tokens.tolist(), usable.tolist(), strict=True)]


def _alike(rows: list[int], params: Sequence[SamplingParams]) -> list[list[int]]:
    """The rows that cut the vocabulary and those that do not, so that the latter are not sorted."""
    cut: list[int] = []
    whole: list[int] = []
    for row in rows:
        (cut if params[row].top_k > 0 or params[row].top_p < 1 else whole).append(row)
    return [group for group in (cut, whole) if group]


def _draw(logits: torch.Tensor, params: list[SamplingParams], generator: torch.Generator | None) -> torch.Tensor:
    """Token ids [rows] of rows that all cut the vocabulary or none of them."""
    temperature = torch.tensor([[each.temperature] for each in params], device=logits.device)
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
    if all(each.top_k <= 0 and each.top_p >= 1 for each in params):
        return _pick(torch.softmax(scaled, -1), generator)
    vocabulary = logits.shape[-1]
    top_k = torch.tensor([[each.top_k if each.top_k > 0 else vocabulary] for each in params], device=logits.device)
    top_p = torch.tensor([[each.top_p] for each in params], device=logits.device)
    width = min(vocabulary, max([_CANDIDATES, *(each.top_k for each in params)]))
    probabilities, ids, enough = _cut(scaled, top_k, top_p, width)
    if not enough:
        probabilities, ids, _ = _cut(scaled, top_k, top_p, vocabulary)
    return ids.gather(-1, _pick(probabilities, generator).unsqueeze(-1)).squeeze(-1)


def _cut(
    scaled: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """What top_k and top_p leave of the `width` likeliest tokens.

    Returns:
        Weights [rows, width], 0 for what is cut; their token ids [rows, width]; whether the width held all that was
        to be kept.
    """
    values, ids = torch.topk(scaled, width)
    weights = torch.exp(values)
    weights = weights.masked_fill(torch.arange(width, device=scaled.device) >= top_k, 0)
    # Relative to what top_k keeps: a row without top_k is measured against the whole vocabulary.
    whole = torch.exp(scaled).sum(-1, keepdim=True)
    total = torch.where(top_k <= width, weights.sum(-1, keepdim=True), whole)
    before = weights.cumsum(-1) - weights
    kept = weights.masked_fill(before >= top_p * total, 0)
    reached = (top_k <= width) | (weights.sum(-1, keepdim=True) >= top_p * total)
    return kept, ids, width == scaled.shape[-1] or bool(reached.all())


def _pick(weights: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Draw indices [rows] in proportion to the weights [rows, n], by one uniform number a row."""
    # In double precision: sums over a vocabulary keep its tail, and the draw cannot fall on the end of the interval.
    edges = weights.double().cumsum(-1)
    point = torch.rand(len(weights), 1, dtype=torch.float64, device=weights.device, generator=generator)
    return torch.searchsorted(edges, point * edges[:, -1:], right=True).squeeze(-1)
