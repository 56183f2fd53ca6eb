"""Results on their way from the device to the host."""

from collections.abc import Callable
from typing import Any

import torch


def arriving(results: list[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    """Start to copy tensors of one device to the host; what is returned waits for them."""
    cuda = results[0].device.type == "cuda"
    here = [torch.empty(each.shape, dtype=each.dtype, pin_memory=cuda) for each in results]
    for target, each in zip(here, results, strict=True):
        target.copy_(each, non_blocking=True)
    ready: Any = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
    if ready is not None:
        ready.record()

    def arrived() -> list[torch.Tensor]:
        if ready is not None:
            ready.synchronize()
        return here

    return arrived
