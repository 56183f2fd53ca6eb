"""One step of the model: from chunks of sequences to the tokens that follow them."""

from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import PretrainedConfig, PreTrainedModel

from services.inference.engine import GenerationRequest
from services.inference.native.attention import Packed, Row, pack_row
from services.inference.native.errors import Damage
from services.inference.native.prompt_scores import score
from services.inference.native.sampler import Sampler
from services.inference.native.sequence import Chunk, Drawn, Sequence


def token_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Bytes of cache that one token takes in all layers."""
    groups, width = head_shape(config)
    layers: int = config.num_hidden_layers
    return 2 * layers * groups * width * dtype.itemsize


def damage(error: BaseException) -> Damage:
    """What an error in a step has broken. After most CUDA errors every later call of this process fails too."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return "memory"
    lost = getattr(torch, "AcceleratorError", None)
    return "device" if (lost is not None and isinstance(error, lost)) or "CUDA error" in str(error) else "step"


class Runner:
    """A model and its cache.

    Args:
        model: a decoder of transformers, loaded with `attention.ATTENTION`, in evaluation mode.
        blocks: size of the cache.
        block_size: tokens in a block.
        seats: sequences in a step at the most.
    """

    lookahead = 0

    def __init__(self, model: PreTrainedModel, *, blocks: int, block_size: int, seats: int) -> None:
        self._model = model
        self._device = model.device
        self._sampler = Sampler(seats, model.config.vocab_size, model.device)
        self._block_size = block_size
        groups, width = head_shape(model.config)
        shape = (model.config.num_hidden_layers, 2, blocks, block_size, groups, width)
        # Not zeroed: what was never written is never read.
        self._cache = list(torch.empty(shape, dtype=model.dtype, device=self._device))

    def warm_up(self) -> None:
        """Run a step whose results nobody wants, while nothing else runs.

        Raises:
            NotImplementedError: the model needs a kind of attention that this engine lacks.
        """
        request = GenerationRequest(id="", tenant="", prompt_ids=[0, 0], max_tokens=1)
        blocks = list(range(-(-2 // self._block_size)))
        self.launch([Chunk(Sequence(request, blocks=blocks), 0, 2, 0, 0, samples=True)])

    def launch(self, chunks: list[Chunk]) -> Callable[[], Drawn]:
        """Compute a step of at least one chunk, no two of the same sequence; what is returned waits for its tokens."""
        with torch.inference_mode():
            logits = self._logits(chunks)
            drawing = [chunk for chunk in chunks if chunk.samples]
            drawn = self._sampler.draw(logits[: len(drawing)], drawing) if drawing else lambda: Drawn([])
            scoring = [chunk for chunk in chunks if chunk.scores]
            if not scoring:
                return drawn
            scores = score(logits[len(drawing) :], scoring)
            return lambda: replace(drawn(), scores=scores())

    def _logits(self, chunks: list[Chunk]) -> torch.Tensor:
        """Float32 [chunks that sample, then tokens that are scored; vocabulary]."""
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        last: list[int] = []
        scored: list[int] = []
        rows: list[Row] = []
        size = self._block_size
        for chunk in chunks:
            blocks = chunk.sequence.blocks[: -(-chunk.end // size)]
            scored += [len(ids) + at - chunk.begin for at in chunk.scores]
            rows.append(pack_row(len(ids), chunk.count, chunk.end, blocks, size, self._device))
            ids += chunk.sequence.ids(chunk.begin, chunk.end)
            positions += range(chunk.begin, chunk.end)
            slots += [blocks[at // size] * size + at % size for at in range(chunk.begin, chunk.end)]
            if chunk.samples:
                last.append(len(ids) - 1)
        output = self._model(
            input_ids=self._tensor(ids).unsqueeze(0),
            position_ids=self._tensor(positions).unsqueeze(0),
            use_cache=False,
            logits_to_keep=self._tensor(last + scored),
            packed=Packed(self._cache, self._tensor(slots), rows),
        )
        logits: torch.Tensor = output.logits
        return logits[0].float()

    def _tensor(self, values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def head_shape(config: PretrainedConfig) -> tuple[int, int]:
    """Key-value heads and the size of one."""
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return groups, width
