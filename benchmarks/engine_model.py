"""The models that the engine's benchmark runs, and the engine around them."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import GlmConfig, GlmForCausalLM, PreTrainedModel

from services.inference.engine import EngineLimits
from services.inference.native.block_manager import BlockManager
from services.inference.native.core import NativeCore
from services.inference.native.device import device_runner
from services.inference.native.paged import Backend
from services.inference.native.runner import damage
from services.inference.native.scheduler import Scheduler

# Without it random logits are so flat that top_p keeps most of the vocabulary.
_SPREAD = 4.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What the floors are computed from."""

    layers: int
    parameters: int
    embedding: int
    token_bytes: int


def glm_config(layers: int = 28) -> GlmConfig:
    """The shape of chatglm3-6b."""
    return GlmConfig(
        vocab_size=65024,
        hidden_size=4096,
        intermediate_size=13696,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=2,
        head_dim=128,
        max_position_embeddings=8192,
        attention_bias=True,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=None,
    )


def random_model(layers: int = 28, attention: str = "sdpa") -> PreTrainedModel:
    """Random weights of chatglm3-6b's shape on the GPU in bf16, always the same; logits of standard deviation 4."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            build: Any = GlmForCausalLM._from_config  # noqa: SLF001  the public way cannot name the attention
            model: PreTrainedModel = build(glm_config(layers), attn_implementation=attention, dtype=torch.bfloat16)
    finally:
        torch.set_default_dtype(before)
    untyped: Any = model
    untyped.get_output_embeddings().weight.data.normal_(0, _SPREAD / model.config.hidden_size**0.5)
    model.requires_grad_(requires_grad=False)
    return model.eval()  # type: ignore[no-untyped-call,no-any-return]


def shape_of(model: PreTrainedModel) -> Shape:
    """Before the engine takes the model apart."""
    config = model.config
    embedding = model.get_input_embeddings().weight.numel()  # type: ignore[operator]
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    return Shape(config.num_hidden_layers, sum(each.numel() for each in model.parameters()), embedding, token)


def quiet(fraction: float, stage: str) -> None:
    """Progress that nobody watches."""


def device_core(
    model: PreTrainedModel,
    *,
    blocks: int,
    seats: int,
    step_tokens: int,
    window: int = 8192,
    attention: Backend | None = None,
    compiled: bool = True,
    products: bool | None = None,
) -> NativeCore:
    """The engine on the CUDA path around a model in memory."""
    manager = BlockManager(blocks, 64)
    vocabulary = model.config.vocab_size
    runner = device_runner(
        model,
        manager,
        seats=seats,
        window=window,
        progress=quiet,
        attention=[attention] if attention else None,
        compiled=compiled,
        products=products,
    )
    limits = EngineLimits(model="shape", context_window=window, vocabulary=vocabulary, tokenizer="")
    scheduler = Scheduler(manager, max_running=seats, max_step_tokens=step_tokens, max_step_scores=512)
    return NativeCore(runner, scheduler, limits, damage=damage)
