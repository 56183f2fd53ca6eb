"""The tokens of a step, one after the other, with where each belongs; in plain numbers, before they are sent."""

from dataclasses import dataclass, field

from services.inference.native.sequence import Chunk


@dataclass(slots=True)
class Packing:
    """What a step computes.

    Attributes:
        ids, positions, seats: of each token; an id that the host does not know yet is -1.
        last: the places of the tokens after which one is drawn.
        rows: a sequence's first packed token, its tokens, its length in the cache, its seat.
        tiles: for the Triton kernel: the row, and the first of its tokens in the tile.
        scored: the places of the tokens whose successor's log-probability is wanted.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    seats: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    tiles: list[tuple[int, int]] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(count for _, count, _, _ in self.rows)

    def pad(self, tokens: int, rows: int, *, seat: int) -> None:
        """Fill up to a size: with empty rows, and one at the end that holds the tokens that are too many.

        Args:
            tokens: at least as many as there are.
            rows: more than there are.
            seat: the one that padding reads and writes.
        """
        spare = tokens - len(self.ids)
        self.rows += [(len(self.ids), 0, 0, seat)] * (rows - len(self.rows) - 1)
        self.rows.append((len(self.ids), spare, spare, seat))
        self.ids += [0] * spare
        self.positions += range(spare)
        self.seats += [seat] * spare


def pack(chunks: list[Chunk], *, tile_tokens: int) -> Packing:
    """Lay out chunks of any size; `tile_tokens` are what a tile of the Triton kernel holds at the most."""
    packing = Packing()
    for row, chunk in enumerate(chunks):
        begin = len(packing.ids)
        packing.scored += [begin + at - chunk.begin for at in chunk.scores]
        packing.rows.append((begin, chunk.count, chunk.end, chunk.slot))
        packing.tiles += [(row, first) for first in range(0, chunk.count, tile_tokens)]
        packing.ids += [known_id(chunk)] if chunk.count == 1 else chunk.sequence.ids(chunk.begin, chunk.end)
        packing.positions += range(chunk.begin, chunk.end)
        packing.seats += [chunk.slot] * chunk.count
        if chunk.samples:
            packing.last.append(len(packing.ids) - 1)
    return packing


def known_id(chunk: Chunk) -> int:
    """The id of a chunk's first token; -1 for one that was drawn by a step that is not read yet."""
    ids = chunk.sequence.ids(chunk.begin, chunk.end)
    return ids[0] if ids else -1
