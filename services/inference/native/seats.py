"""What the device knows of those that run, seat by seat, brought up to date with as little traffic as possible."""

import torch

from services.inference.native.sequence import Chunk

_MASK = (1 << 64) - 1


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) for a sequence's token, the same in any company: SplitMix64 (Steele et al., 2014).

    23 bits, so that in float32 its product with a sum stays below the sum.
    """
    x = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return float((x ^ (x >> 31)) >> 41) / (1 << 23)


class Seats:
    """Block tables, sampling settings and last tokens on the device, one row a seat, and one for padding.

    Args:
        count: seats.
        width: blocks of the longest sequence.
        padding: the block that padding reads and writes.
        device: of the tensors.
    """

    def __init__(self, count: int, *, width: int, padding: int, device: torch.device) -> None:
        self.count = count
        self.tables = torch.full((count + 1, width), padding, dtype=torch.int32, device=device)
        self.last = torch.zeros(count + 1, dtype=torch.int64, device=device)
        self.settings = torch.zeros((3, count + 1), dtype=torch.float32, device=device)
        self.top_ks = torch.zeros(count + 1, dtype=torch.int32, device=device)
        self._device = device
        self._width = width
        self._sitting: list[tuple[object, int]] = [(None, 0)] * count
        self._sent = [0] * count

    def update(self, chunks: list[Chunk]) -> None:
        """Send what is new since the last step: blocks, and the settings of who has just sat down."""
        where: list[int] = []
        blocks: list[int] = []
        fresh: list[Chunk] = []
        for chunk in chunks:
            seat, sequence = chunk.slot, chunk.sequence
            if self._sitting[seat] != (sequence, chunk.seating):
                self._sitting[seat] = (sequence, chunk.seating)
                self._sent[seat] = 0
                fresh.append(chunk)
            sent, held = self._sent[seat], len(sequence.blocks)
            if held > sent:
                where += range(seat * self._width + sent, seat * self._width + held)
                blocks += sequence.blocks[sent:]
                self._sent[seat] = held
        if where:
            places, values = self.send([where, blocks])
            self.tables.view(-1).index_copy_(0, places.long(), values)
        if fresh:
            self._settle(fresh)

    def send(self, values: list[list[int]]) -> torch.Tensor:
        """Integers to the device without waiting for it: int32, a row a list."""
        pinned = self._device.type == "cuda"
        return torch.tensor(values, dtype=torch.int32, pin_memory=pinned).to(self._device, non_blocking=True)

    def _settle(self, fresh: list[Chunk]) -> None:
        params = [chunk.sequence.request.sampling for chunk in fresh]
        seats, top_ks = self.send([[chunk.slot for chunk in fresh], [each.top_k for each in params]])
        rows = [[each.temperature for each in params], [each.top_p for each in params], [0.0] * len(params)]
        pinned = self._device.type == "cuda"
        values = torch.tensor(rows, dtype=torch.float32, pin_memory=pinned).to(self._device, non_blocking=True)
        self.settings.index_copy_(1, seats.long(), values)
        self.top_ks.index_copy_(0, seats.long(), top_ks)
