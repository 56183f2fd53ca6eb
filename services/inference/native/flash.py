"""FlashAttention-3 over the paged cache: what is the same for all layers of a step is computed once a step."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class FlashPlan:
    """What the layers of one step share.

    Attributes:
        pages: int32 [rows, blocks of a sequence].
        edges: int32 [rows + 1], where the rows' packed tokens begin and end.
        lengths: int32 [rows], in the cache.
        longest: tokens of the longest row.
        schedule: how the work is split among processors; None lets every layer find out itself.
    """

    pages: torch.Tensor
    edges: torch.Tensor
    lengths: torch.Tensor
    longest: int
    schedule: torch.Tensor | None


def plan(
    tables: torch.Tensor, rows: torch.Tensor, longest: int, *, heads: int, keys: torch.Tensor, scheduled: bool
) -> FlashPlan:
    """Prepare a step.

    Args:
        tables: int32 [seats, blocks of a sequence].
        rows: int32 [4, rows]: a sequence's first packed token, its tokens, its length in the cache, its seat.
        longest: tokens of the longest row.
        heads: of the queries.
        keys: [blocks, size, groups, width] of any layer.
        scheduled: whether the splits are computed here instead of in every layer.
    """
    first, count, lengths, seats = rows
    pages = tables[seats]
    edges = torch.cat([first, first[-1:] + count[-1:]])
    schedule: torch.Tensor | None = None
    if scheduled:
        from flash_attn_interface import get_scheduler_metadata  # noqa: PLC0415  only where installed

        _, size, groups, width = keys.shape
        schedule = get_scheduler_metadata(
            rows.shape[1],
            longest,
            # What the attention itself concludes from the pages; other figures would make another schedule.
            pages.shape[1] * size,
            heads,
            groups,
            width,
            lengths,
            qkv_dtype=keys.dtype,
            cu_seqlens_q=edges,
            page_size=size,
            causal=True,
        )
    return FlashPlan(pages, edges, lengths, longest, schedule)


def attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, step: FlashPlan) -> torch.Tensor:
    """Attend to each sequence's blocks, each token to what is not after it: [T, heads, width]."""
    from flash_attn_interface import flash_attn_with_kvcache  # noqa: PLC0415  only where installed

    out: Any = flash_attn_with_kvcache(
        query,
        keys,
        values,
        cache_seqlens=step.lengths,
        page_table=step.pages,
        cu_seqlens_q=step.edges,
        max_seqlen_q=step.longest,
        causal=True,
        scheduler_metadata=step.schedule,
    )
    result: torch.Tensor = out[0] if isinstance(out, tuple) else out
    return result
