"""Attention of packed sequences over the paged cache: prompts and answers in one kernel, split over long contexts.

The heads that share keys are rows of one tile, so that keys and values are read once for all of them. A context that is
split is put together by the partial sums' logarithms (Dao et al., "Flash-Decoding", 2023).
"""

import torch
import triton
import triton.language as tl


@triton.jit
def _read(
    q, keys, values, table, begin, end, position, group, scale,
    GROUPS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One part of a context: the largest score, the weights' sum relative to it, and the weighted values."""
    d = tl.arange(0, WIDTH)
    best = tl.full([q.shape[0]], float("-inf"), tl.float32)
    total = tl.zeros([q.shape[0]], tl.float32)
    acc = tl.zeros([q.shape[0], WIDTH], tl.float32)
    for start in range(begin, end, BLOCK):
        n = start + tl.arange(0, BLOCK)
        inside = n < end
        block = tl.load(table + n // SIZE, mask=inside, other=0)
        cell = ((block.to(tl.int64) * SIZE + n % SIZE) * GROUPS + group) * WIDTH
        k = tl.load(keys + cell[None, :] + d[:, None], mask=inside[None, :], other=0.0)
        scores = tl.dot(q, k) * scale
        scores = tl.where(inside[None, :] & (n[None, :] <= position[:, None]), scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        # Rows that have seen nothing yet stay at minus infinity, and must not become NaN.
        base = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp(scores - base[:, None])
        fade = tl.exp(best - base)
        total = total * fade + tl.sum(p, 1)
        v = tl.load(values + cell[:, None] + d[None, :], mask=inside[:, None], other=0.0)
        acc = acc * fade[:, None] + tl.dot(p.to(v.dtype), v)
        best = higher
    return best, total, acc


# Compiled once, whatever the step holds.
@triton.jit(do_not_specialize=["packed", "row_count", "tile_count"])
def _attend(
    query, keys, values, out, partial, weights, tables, rows, tiles, scale, table_width, packed, row_count, tile_count,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, PADDED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    group = tl.program_id(1)
    split = tl.program_id(2)
    row = tl.load(tiles + tile)
    offset = tl.load(tiles + tile_count + tile)
    first = tl.load(rows + row)
    count = tl.load(rows + row_count + row)
    length = tl.load(rows + 2 * row_count + row)
    seat = tl.load(rows + 3 * row_count + row)

    m = tl.arange(0, TOKENS * PADDED)
    token = offset + m // PADDED
    shared: tl.constexpr = HEADS // GROUPS
    head = group * shared + m % PADDED
    valid = (m % PADDED < shared) & (token < count)
    position = length - count + token
    d = tl.arange(0, WIDTH)
    place = ((first + token) * HEADS + head).to(tl.int64)
    q = tl.load(query + place[:, None] * WIDTH + d[None, :], mask=valid[:, None], other=0.0)

    end = tl.minimum(length, length - count + offset + TOKENS)
    share = tl.cdiv(tl.cdiv(end, SPLITS), BLOCK) * BLOCK
    begin = split * share
    end = tl.minimum(end, begin + share)
    best, total, acc = _read(
        q, keys, values, tables + seat.to(tl.int64) * table_width, begin, end, position, group, scale,
        GROUPS, WIDTH, SIZE, BLOCK,
    )  # fmt: skip
    total = tl.where(total > 0, total, 1.0)
    result = acc / total[:, None]
    if SPLITS == 1:
        tl.store(out + place[:, None] * WIDTH + d[None, :], result.to(out.dtype.element_ty), mask=valid[:, None])
    else:
        at = split.to(tl.int64) * packed * HEADS + place
        tl.store(partial + at[:, None] * WIDTH + d[None, :], result, mask=valid[:, None])
        tl.store(weights + at, best + tl.log(total), mask=valid)


@triton.jit(do_not_specialize=["places"])
def _combine(partial, weights, out, places, WIDTH: tl.constexpr, SPLITS: tl.constexpr, PADDED: tl.constexpr):
    place = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, PADDED)
    d = tl.arange(0, WIDTH)
    inside = split < SPLITS
    at = split * places + place
    logs = tl.load(weights + at, mask=inside, other=float("-inf"))
    weight = tl.exp(logs - tl.max(logs, 0))
    parts = tl.load(partial + at[:, None] * WIDTH + d[None, :], mask=inside[:, None], other=0.0)
    result = tl.sum(parts * weight[:, None], 0) / tl.sum(weight, 0)
    tl.store(out + place * WIDTH + d, result.to(out.dtype.element_ty))


def tile_tokens(heads: int, groups: int, *, decode: bool) -> int:
    """Tokens of one sequence that a tile holds: 16 rows at the least, which the matrix units ask for."""
    padded = triton.next_power_of_2(heads // groups)
    return int(max(1, (16 if decode else 128) // padded))


def paged_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tables: torch.Tensor,
    rows: torch.Tensor,
    tiles: torch.Tensor,
    *,
    scale: float,
    tokens: int,
    splits: int = 1,
) -> torch.Tensor:
    """Attend to each sequence's blocks, each token to what is not after it.

    Args:
        query: [T, heads, width], rotated, contiguous; width a power of 2.
        keys: [blocks, size, groups, width], contiguous, this step's tokens written.
        values: likewise.
        tables: int32 [seats, blocks of a sequence].
        rows: int32 [4, rows]: a sequence's first packed token, its tokens, its length in the cache, its seat.
        tiles: int32 [2, tiles]: the row, and the first of its tokens that the tile holds.
        scale: of the scores.
        tokens: of a tile, from `tile_tokens`.
        splits: parts of each context that are read at once.

    Returns:
        [T, heads, width].
    """
    packed, heads, width = query.shape
    _, size, groups, _ = keys.shape
    out = torch.empty_like(query)
    shape = (splits, packed, heads) if splits > 1 else (1, 1, 1)
    partial = torch.empty((*shape, width), dtype=torch.float32, device=query.device)
    weights = torch.empty(shape, dtype=torch.float32, device=query.device)
    count = tiles.shape[1]
    decode = tokens * triton.next_power_of_2(heads // groups) <= 16
    _attend[(count, groups, splits)](
        query, keys, values, out, partial, weights, tables, rows, tiles, scale, tables.shape[1], packed, rows.shape[1],
        count, HEADS=heads, GROUPS=groups, PADDED=triton.next_power_of_2(heads // groups), WIDTH=width, SIZE=size,
        TOKENS=tokens, BLOCK=64, SPLITS=splits, num_warps=4 if decode else 8, num_stages=3 if decode else 2,
    )  # fmt: skip
    if splits > 1:
        _combine[(packed * heads,)](
            partial, weights, out, packed * heads, WIDTH=width, SPLITS=splits, PADDED=triton.next_power_of_2(splits)
        )
    return out
