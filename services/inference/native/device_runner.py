"""Steps of a fused decoder on a device that works on its own: nothing here waits for it, except reading the tokens."""

from collections.abc import Callable
from dataclasses import replace

import torch

from services.inference.native.attention import Row, pack_row
from services.inference.native.decoder import Decoder
from services.inference.native.graphs import Graphs, decode_sizes, prompt_sizes
from services.inference.native.packing import known_id, pack
from services.inference.native.paged import Cache, Step
from services.inference.native.prompt_scores import Scores, score
from services.inference.native.sampler import Sampler
from services.inference.native.seats import Seats
from services.inference.native.sequence import Chunk, Drawn


class DeviceRunner:
    """A decoder and its cache, and steps of some sizes recorded.

    Args:
        decoder: the model.
        cache: its keys and values.
        seats: sequences in a step at the most.
        window: tokens of the longest sequence.
    """

    def __init__(self, decoder: Decoder, cache: Cache, *, seats: int, window: int) -> None:
        self._decoder, self._cache = decoder, cache
        device = decoder.device
        cuda = device.type == "cuda"
        self.lookahead = 1 if cuda else 0
        width = -(-window // cache.size)
        self._seats = Seats(seats, width=width, padding=cache.blocks, device=device)
        self._sampler = Sampler(seats, decoder.vocabulary, device, kernel=cuda)
        self._window = window
        pool = torch.cuda.graph_pool_handle() if cuda else None
        self._decodes, self._prompts = Graphs(pool), Graphs(pool)
        # Where recorded steps find their tokens and rows.
        self._tokens = torch.zeros((3, max(seats, *prompt_sizes(window), 1)), dtype=torch.int32, device=device)
        self._rows = torch.zeros((4, seats + 1), dtype=torch.int32, device=device)
        self._ordinals = torch.arange(seats + 1, dtype=torch.int32, device=device)
        self._ones = torch.ones(seats, dtype=torch.int32, device=device)

    def capture(self, progress: Callable[[float, str], None]) -> None:
        """Record decode steps, and what can be of prompts; CUDA only. Nothing else may run meanwhile."""
        steps = [(self._decodes, self._decode, size) for size in decode_sizes(self._seats.count)]
        if self._cache.takes_empty_rows:
            steps += [(self._prompts, self._prompt, size) for size in prompt_sizes(self._window)]
        self._tokens[2] = self._seats.count
        self._rows[3] = self._seats.count
        with torch.no_grad():
            # The largest first: the smaller ones find their memory there.
            for done, (graphs, compute, size) in enumerate(reversed(steps)):
                progress(done / len(steps), "recording steps")
                graphs.record(size, compute)
        progress(1.0, "recording steps")

    def launch(self, chunks: list[Chunk]) -> Callable[[], Drawn]:
        """Start a step; what is returned waits for its tokens."""
        with torch.no_grad():
            self._seats.update(chunks)
            drawing = [chunk for chunk in chunks if chunk.samples]
            size = self._decodes.size_for(len(chunks)) if _decodes(chunks) else 0
            if size:
                return self._sampler.draw(self._replay(chunks, size), drawing)
            logits, scores = self._run(chunks)
            drawn = self._sampler.draw(logits, drawing) if drawing else lambda: Drawn([])
            return drawn if scores is None else lambda: replace(drawn(), scores=scores())

    def _replay(self, chunks: list[Chunk], size: int) -> torch.Tensor:
        spare = size - len(chunks)
        ids = [known_id(chunk) for chunk in chunks] + [0] * spare
        positions = [chunk.begin for chunk in chunks] + [0] * spare
        seats = [chunk.slot for chunk in chunks] + [self._seats.count] * spare
        self._tokens[:, :size].copy_(self._seats.send([ids, positions, seats]))
        return self._decodes.replay(size)[: len(chunks)]

    def _run(self, chunks: list[Chunk]) -> tuple[torch.Tensor, Callable[[], Scores] | None]:
        """Logits [chunks that sample, vocabulary]; and what waits for the scores of prompts, if some are wanted."""
        packing = pack(chunks, tile_tokens=self._cache.tile_tokens(decode=all(chunk.count == 1 for chunk in chunks)))
        last = self._seats.send([packing.last])[0].long()
        size = self._prompts.size_for(len(packing.ids))
        if size:
            packing.pad(size, self._rows.shape[1], seat=self._seats.count)
        tokens = self._seats.send([packing.ids, packing.positions, packing.seats])
        rows = self._seats.send([list(column) for column in zip(*packing.rows, strict=True)])
        if size:
            self._tokens[:, :size].copy_(tokens)
            self._rows.copy_(rows)
            hidden = self._prompts.replay(size)
        else:
            tiles = self._seats.send([list(column) for column in zip(*packing.tiles, strict=True)])
            hidden = self._hidden(tokens, rows, tiles, longest=packing.longest, plain=self._plain(packing.rows))
        logits = self._decoder.logits(hidden[last])
        if not packing.scored:
            return logits, None
        # On their own, so that what is drawn beside them comes from the same product as ever.
        scored = self._decoder.logits(hidden[self._seats.send([packing.scored])[0].long()])
        return logits, score(scored, [chunk for chunk in chunks if chunk.scores])

    def _plain(self, rows: list[tuple[int, int, int, int]]) -> list[Row] | None:
        """The sequences as plain torch attends to them; None where something else does."""
        if self._cache.backend != "sdpa":
            return None
        size, tables = self._cache.size, self._seats.tables
        held = [tables[seat, : -(-length // size)].tolist() for _, _, length, seat in rows]
        return [
            pack_row(first, count, length, blocks, size, tables.device)
            for (first, count, length, _), blocks in zip(rows, held, strict=True)
        ]

    def _decode(self, size: int) -> torch.Tensor:
        """Logits [size, vocabulary] of one token each, by what `_tokens` holds."""
        tokens = self._tokens[:, :size]
        ordinals = self._ordinals[:size]
        rows = torch.stack([ordinals, self._ones[:size], tokens[1] + 1, tokens[2]])
        tiles = torch.stack([ordinals, torch.zeros_like(ordinals)])
        return self._decoder.logits(self._hidden(tokens, rows, tiles, longest=1))

    def _prompt(self, size: int) -> torch.Tensor:
        """The state [size, hidden] of as many tokens, by what `_tokens` and `_rows` hold."""
        return self._hidden(self._tokens[:, :size], self._rows, self._rows[:2, :0], longest=size)

    def _hidden(
        self,
        tokens: torch.Tensor,
        rows: torch.Tensor,
        tiles: torch.Tensor,
        *,
        longest: int,
        plain: list[Row] | None = None,
    ) -> torch.Tensor:
        ids, positions, seats = tokens
        size, tables = self._cache.size, self._seats.tables
        at = seats.long()
        # An id that the host does not know yet is the one that was drawn last.
        known = torch.where(ids < 0, self._sampler.last[at], ids.long())
        cells = tables[at, positions.long() // size] * size + positions % size
        step = self._cache.planned(Step(positions, cells, tables, rows, tiles, longest, plain))
        return self._decoder.hidden(known, lambda layer, qkv: self._cache.attend(layer, qkv, step))


def _decodes(chunks: list[Chunk]) -> bool:
    return all(chunk.count == 1 and chunk.samples for chunk in chunks)
