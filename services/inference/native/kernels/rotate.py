"""Rotary positions and the cache's new tokens in one pass over the projections."""

import torch
import triton
import triton.language as tl


# Compiled once, wherever in its tensor a step's row of numbers begins.
@triton.jit(do_not_specialize_on_alignment=["positions", "cells"])
def _rotate(
    qkv,
    query,
    keys,
    values,
    cosines,
    sines,
    positions,
    cells,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROTARY: tl.constexpr,
    TILE: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * TILE + tl.arange(0, TILE)
    d = tl.arange(0, WIDTH)
    half: tl.constexpr = ROTARY // 2
    partner = tl.where(d < half, d + half, tl.where(d < ROTARY, d - half, d))
    position = tl.load(positions + token).to(tl.int64)
    angle = position * half + d % half
    cosine = tl.load(cosines + angle, mask=d < ROTARY, other=1.0)
    sine = tl.load(sines + angle, mask=d < ROTARY, other=0.0)
    sine = tl.where(d < half, -sine, sine)
    known = head < HEADS + 2 * GROUPS
    row = qkv + (token * (HEADS + 2 * GROUPS) + head[:, None]) * WIDTH
    here = tl.load(row + d[None, :], mask=known[:, None], other=0.0).to(tl.float32)
    there = tl.load(row + partner[None, :], mask=known[:, None], other=0.0).to(tl.float32)
    turned = (here * cosine[None, :] + there * sine[None, :]).to(query.dtype.element_ty)
    cell = tl.load(cells + token).to(tl.int64)
    tl.store(query + (token * HEADS + head[:, None]) * WIDTH + d[None, :], turned, mask=(head < HEADS)[:, None])
    key = head - HEADS
    is_key = (key >= 0) & (key < GROUPS)
    tl.store(keys + (cell * GROUPS + key[:, None]) * WIDTH + d[None, :], turned, mask=is_key[:, None])
    value = key - GROUPS
    is_value = (value >= 0) & known
    plain = here.to(query.dtype.element_ty)
    tl.store(values + (cell * GROUPS + value[:, None]) * WIDTH + d[None, :], plain, mask=is_value[:, None])


def rotate_and_store(
    qkv: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cosines: torch.Tensor,
    sines: torch.Tensor,
    positions: torch.Tensor,
    cells: torch.Tensor,
) -> torch.Tensor:
    """Rotate queries and keys by their positions, and write keys and values to the cache.

    Args:
        qkv: [T, heads + 2 groups, width], contiguous.
        keys: [blocks, size, groups, width], contiguous; written to.
        values: likewise.
        cosines: float32 [positions, rotary / 2]; the rotated part of a head is its beginning, in two halves.
        sines: likewise.
        positions: int32 [T].
        cells: int32 [T], where in the cache each token goes.

    Returns:
        The queries, [T, heads, width].
    """
    packed, every, width = qkv.shape
    groups = keys.shape[2]
    heads = every - 2 * groups
    query = torch.empty((packed, heads, width), dtype=qkv.dtype, device=qkv.device)
    tile = 4
    _rotate[(packed, triton.cdiv(every, tile))](
        qkv,
        query,
        keys,
        values,
        cosines,
        sines,
        positions,
        cells,
        HEADS=heads,
        GROUPS=groups,
        WIDTH=width,
        ROTARY=2 * cosines.shape[1],
        TILE=tile,
        num_warps=1,
    )
    return query
