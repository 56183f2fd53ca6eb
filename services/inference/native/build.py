"""Puts the native engine together: model, cache, scheduler, loop."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from services.inference.engine import EngineLimits
from services.inference.native import loader
from services.inference.native.attention import ATTENTION, register
from services.inference.native.block_manager import BlockManager
from services.inference.native.constraint import Constraints
from services.inference.native.core import NativeCore, StepRunner
from services.inference.native.decoder import supported
from services.inference.native.device import Attention, can_compile, choose_attention, device_runner
from services.inference.native.errors import ModelError
from services.inference.native.model import ModelFiles, resolve
from services.inference.native.paged import Backend
from services.inference.native.runner import Runner, damage, token_bytes
from services.inference.native.scheduler import Scheduler
from services.inference.watchdog import Watchdog

_log = logging.getLogger(__name__)
_GIB = 1 << 30
_BLOCK_SIZE = 64 if torch.cuda.is_available() else 16
_TYPICAL_REQUEST = 1024
_CPU_RUNNING, _CUDA_RUNNING = 16, 256
# Of what the weights leave free on the GPU; the rest is for a step's activations.
_CUDA_SHARE = 0.8
_STEP_TOKENS = {"cpu": 256, "cuda": 8192}
# Seconds. A step of a large model takes a minute on a small CPU; on a GPU kernels may still have to be compiled.
_LONGEST_STEP = {"cpu": 600.0, "cuda": 120.0}
# Of float32 logits; two or three times as much is taken while log-probabilities of prompts are computed from them.
_SCORE_BYTES = 1 << 27


def build(  # noqa: PLR0913 - what there is to set
    model: str,
    *,
    cache_dir: Path,
    revision: str | None,
    max_running: int | None,
    device: str | None,
    attention: Attention,
    progress: Callable[[float, str], None],
    step_seconds: float | None = None,
    cache_bytes: int = 4 * _GIB,
) -> NativeCore:
    """Load a model and make it an engine that has not started yet.

    The process must set OMP_WAIT_POLICY=PASSIVE before torch is imported: idle OpenMP threads that spin take the cores
    from whatever else runs.

    Args:
        model: `auto`, `demo`, a directory or a hub id.
        cache_dir: where the converted demo model is kept.
        revision: of a hub model.
        max_running: answers in a step at the most; None for what the device can take.
        device: as torch names it; None takes CUDA where there is some.
        attention: how to attend; `auto` for the fastest that runs.
        progress: is told the fraction done of a stage, in [0, 1], and the stage.
        step_seconds: the longest step, after which the engine counts as hung; None for what is long for the device.
        cache_bytes: bound of the key-value cache on CPU.

    Raises:
        ModelError: the model cannot be served.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    files = resolve(model, cache_dir=cache_dir, revision=revision, cuda=place.type == "cuda", progress=progress)
    config = loader.read_config(files.directory)
    dtype = loader.choose_dtype(place)
    fused = supported(config) and (place.type == "cpu" or can_compile())
    backends = choose_attention(place, attention, fused=fused)
    register()
    kind = "sdpa" if fused else ATTENTION
    loaded = loader.load(files.directory, config, device=place, dtype=dtype, attention=kind, progress=progress)
    ways = backends if fused else None
    return _engine(
        loaded,
        files,
        ways=ways,
        max_running=max_running,
        watchdog=Watchdog(step_seconds or _LONGEST_STEP[place.type]),
        cache_bytes=cache_bytes,
        progress=progress,
    )


def _engine(
    model: PreTrainedModel,
    files: ModelFiles,
    *,
    ways: list[Backend] | None,
    max_running: int | None,
    watchdog: Watchdog,
    cache_bytes: int,
    progress: Callable[[float, str], None],
) -> NativeCore:
    """The engine around a loaded model, sized by what memory is left."""
    window = loader.context_window(model.config)
    max_running, tokens = _capacity(model, window=window, max_running=max_running, cache_bytes=cache_bytes)
    if tokens < window:
        _log.warning("memory holds a context of %d tokens of the model's %d", tokens, window)
    window = min(window, tokens)
    blocks = BlockManager(tokens // _BLOCK_SIZE, _BLOCK_SIZE)
    runner = _runner(model, blocks, files.name, seats=max_running, window=window, ways=ways, progress=progress)
    _log.info(
        "model %s on %s in %s, %d tokens of cache, %d answers at once",
        *(files.name, model.device, model.dtype, tokens, max_running),
    )
    step_tokens = max(2 * max_running, _STEP_TOKENS.get(model.device.type, 256))
    vocabulary = model.config.vocab_size
    limits = EngineLimits(
        model=files.name,
        context_window=window,
        vocabulary=vocabulary,
        tokenizer=str(files.directory),
        max_running=max_running,
        demo=files.demo,
    )
    return NativeCore(
        runner,
        Scheduler(
            blocks,
            max_running=max_running,
            max_step_tokens=step_tokens,
            max_step_scores=max(1, _SCORE_BYTES // (4 * vocabulary)),
        ),
        limits,
        compiler=Constraints(files.directory, vocabulary),
        damage=damage,
        watchdog=watchdog,
    )


def _runner(
    model: PreTrainedModel,
    blocks: BlockManager,
    name: str,
    *,
    seats: int,
    window: int,
    ways: list[Backend] | None,
    progress: Callable[[float, str], None],
) -> StepRunner:
    """What computes the model; `ways` are those to attend for a fused decoder, None for transformers' own class."""
    if ways is not None:
        return device_runner(model, blocks, seats=seats, window=window, progress=progress, attention=ways)
    runner = Runner(model, blocks=blocks.count, block_size=blocks.size, seats=seats)
    try:
        runner.warm_up()
    except (NotImplementedError, TypeError, AttributeError) as error:
        raise ModelError(f"The model {name} ({model.config.model_type}) is not supported: {error}.") from error
    return runner


def _capacity(model: PreTrainedModel, *, window: int, max_running: int | None, cache_bytes: int) -> tuple[int, int]:
    """Answers at once, and tokens of the cache: the longest request and a typical one for each other, if they fit."""
    cuda = model.device.type == "cuda"
    if cuda:
        cache_bytes = int(torch.cuda.mem_get_info(model.device)[0] * _CUDA_SHARE)
    room = cache_bytes // token_bytes(model.config, model.dtype)
    if max_running is None:
        max_running = max(1, min(_CUDA_RUNNING, room // _TYPICAL_REQUEST)) if cuda else _CPU_RUNNING
    wanted = window * max_running if cuda else window + _TYPICAL_REQUEST * (max_running - 1)
    tokens = min(wanted + -wanted % _BLOCK_SIZE, room)
    if tokens < _BLOCK_SIZE:
        raise ModelError("The weights leave no memory for the cache: use a smaller model or a larger machine.")
    return max_running, tokens - tokens % _BLOCK_SIZE
