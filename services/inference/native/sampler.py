"""From a step's logits to its tokens, each row by its own request's parameters, on CPU and on CUDA."""

from collections.abc import Callable
from typing import cast

import torch

from services.inference.native.arrival import arriving
from services.inference.native.constraint import ConstraintMatcher, fill
from services.inference.native.logprobs import Logprobs
from services.inference.native.penalties import IN_PROMPT, Penalties
from services.inference.native.sampling import GREEDY_BELOW, sample, uniform
from services.inference.native.sequence import Chunk, Drawn

_BITS = 32


class Sampler:
    """Draws, and knows what it drew last.

    Args:
        seats: answers in a step at the most.
        vocabulary: token ids.
        device: of the logits.
        kernel: whether our Triton kernels change the logits and draw.

    Attributes:
        last: the token drawn last for each seat, int64 [seats + 1], on the device; one more for padding.
    """

    def __init__(self, seats: int, vocabulary: int, device: torch.device, *, kernel: bool = False) -> None:
        self.last = torch.zeros(seats + 1, dtype=torch.int64, device=device)
        self._penalties = Penalties(seats, vocabulary, device)
        self._device = device
        self._kernel = kernel
        self._cuda = device.type == "cuda"
        self._sitting: list[tuple[object, int]] = [(None, 0)] * seats

    def draw(self, logits: torch.Tensor, chunks: list[Chunk]) -> Callable[[], Drawn]:
        """Start to draw a token a row; what is returned waits for them.

        Args:
            logits: [rows, vocabulary], floating, contiguous; -inf excludes a token.
            chunks: of the rows.
        """
        self._seat(chunks)
        asking = [row for row, chunk in enumerate(chunks) if chunk.sequence.request.sampling.logprobs is not None]
        wanted = [chunks[row].sequence.request.sampling.logprobs or 0 for row in asking]
        kept = Logprobs(logits[self._sent(asking)], wanted) if asking else None
        seats = self._sent([chunk.slot for chunk in chunks])
        penalised = self._penalties.rows(chunks)
        logits = self._changed(logits, chunks, seats, penalised)
        tokens, usable = self._draw(logits, chunks)
        self.last.index_copy_(0, seats, tokens)
        if penalised:
            rows = self._sent(penalised)
            self._penalties.count(seats[rows], tokens[rows])
        return self._arriving(tokens, usable, asking, kept)

    def _seat(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            if self._sitting[chunk.slot] != (chunk.sequence, chunk.seating):
                self._sitting[chunk.slot] = (chunk.sequence, chunk.seating)
                self._penalties.seat(chunk)

    def _changed(
        self, logits: torch.Tensor, chunks: list[Chunk], seats: torch.Tensor, penalised: list[int]
    ) -> torch.Tensor:
        """The logits with constraints, biases and penalties applied; the same tensor where there are none."""
        constrained = [row for row, chunk in enumerate(chunks) if chunk.sequence.matcher is not None]
        if not constrained and not penalised:
            return logits
        matchers = [cast("ConstraintMatcher", chunks[row].sequence.matcher) for row in constrained]
        masks = self._masks(matchers, logits.shape[-1])
        if self._kernel:
            return self._changed_in_one_pass(logits, chunks, constrained, penalised, masks)
        # A copy: a recorded step writes its logits to the same place again. Biases are too fine for bfloat16.
        logits = logits.to(torch.float32, copy=True)
        if constrained:
            rows = self._sent(constrained)
            bits = (masks.unsqueeze(-1) >> torch.arange(_BITS, dtype=torch.int32, device=self._device)) & 1
            allowed = bits.flatten(1)[:, : logits.shape[-1]].bool()
            logits[rows] = logits[rows].masked_fill(~allowed, float("-inf"))
        if penalised:
            rows = self._sent(penalised)
            logits[rows] = self._penalties.apply(logits[rows], seats[rows])
        return logits

    def _changed_in_one_pass(
        self,
        logits: torch.Tensor,
        chunks: list[Chunk],
        constrained: list[int],
        penalised: list[int],
        masks: torch.Tensor,
    ) -> torch.Tensor:
        from services.inference.native.kernels.change import change  # noqa: PLC0415  needs Triton

        seats, masked = [-1] * len(chunks), [-1] * len(chunks)
        for row in penalised:
            seats[row] = chunks[row].slot
        for place, row in enumerate(constrained):
            masked[row] = place
        sent = self._sent(seats), self._sent(masked)
        return change(logits, *sent, masks, self._penalties.tables, in_prompt=IN_PROMPT)

    def _masks(self, matchers: list[ConstraintMatcher], vocabulary: int) -> torch.Tensor:
        """What each may go on with: a bit for each token, int32 [matchers, words]."""
        words = torch.zeros((len(matchers), -(-vocabulary // _BITS)), dtype=torch.int32, pin_memory=self._cuda)
        if matchers:
            fill(matchers, words)
        return words.to(self._device, non_blocking=True)

    def _draw(self, logits: torch.Tensor, chunks: list[Chunk]) -> tuple[torch.Tensor, torch.Tensor]:
        params = [chunk.sequence.request.sampling for chunk in chunks]
        points = [uniform(each.sequence.seed, each.end - len(each.sequence.request.prompt_ids)) for each in chunks]
        if not self._kernel:
            return sample(logits.float(), params, points)
        from services.inference.native.kernels.draw import draw  # noqa: PLC0415  needs Triton

        columns = [
            (each.temperature if each.temperature >= GREEDY_BELOW else 0.0, each.top_p, each.min_p, point, each.top_k)
            for each, point in zip(params, points, strict=True)
        ]
        settings = torch.tensor(columns, dtype=torch.float32, pin_memory=True).to(self._device, non_blocking=True)
        return draw(logits, settings)

    def _arriving(
        self, tokens: torch.Tensor, usable: torch.Tensor, asking: list[int], kept: Logprobs | None
    ) -> Callable[[], Drawn]:
        results = [torch.stack([tokens, usable.long()])]
        if kept is not None:
            results.append(kept.packed(tokens[self._sent(asking)]))
        arrived = arriving(results)

        def read() -> Drawn:
            first, *rest = arrived()
            drawn, fine = first.tolist()
            logprobs = {} if kept is None else dict(zip(asking, kept.read(rest[0]), strict=True))
            return Drawn([token if each else None for token, each in zip(drawn, fine, strict=True)], logprobs)

        return read

    def _sent(self, values: list[int]) -> torch.Tensor:
        """Indices, int64, to the device without waiting for it."""
        return torch.tensor(values, dtype=torch.int64, pin_memory=self._cuda).to(self._device, non_blocking=True)
