"""The decoder's matrix products: torch's, or for a single token our own, which also do what surrounds them."""

import torch
from torch.nn.functional import linear as torch_linear
from torch.nn.functional import silu


def linear(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    *,
    own: bool,
) -> torch.Tensor:
    """[T, width] to [T, rows], bias and residual added; `own` takes our kernel for one token."""
    if own and hidden.shape[0] == 1:
        from services.inference.native.kernels.product import product  # noqa: PLC0415  needs Triton

        return product(hidden, weight, bias, residual)
    result = torch_linear(hidden, weight, bias)
    return result if residual is None else residual + result


def gated(hidden: torch.Tensor, weight: torch.Tensor, *, own: bool) -> torch.Tensor:
    """[T, width] to [T, rows / 2]: SiLU of the first half of the rows times the second."""
    if own and hidden.shape[0] == 1:
        from services.inference.native.kernels.product import product  # noqa: PLC0415  needs Triton

        return product(hidden, weight, gated=True)
    gate, up = torch_linear(hidden, weight).chunk(2, -1)
    return silu(gate) * up
