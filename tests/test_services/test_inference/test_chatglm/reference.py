"""ChatGLM's architecture in plain torch and float64, written from its description; and tiny checkpoints of it.

Activations are small, so that a wrong epsilon changes the result.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import silu

Weights = dict[str, Tensor]


def original_config(**changes: Any) -> dict[str, Any]:
    return {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "auto_map": {
            "AutoConfig": "configuration_chatglm.ChatGLMConfig",
            "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
        },
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_residual_connection_post_layernorm": False,
        "ffn_hidden_size": 56,
        "hidden_size": 48,
        "kv_channels": 16,
        "layernorm_epsilon": 1e-05,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "num_attention_heads": 4,
        "num_layers": 3,
        "original_rope": True,
        "padded_vocab_size": 96,
        "post_layer_norm": True,
        "rmsnorm": True,
        "seq_length": 512,
        "torch_dtype": "float32",
        "eos_token_id": 2,
        "pad_token_id": 0,
    } | changes


def original_weights(config: dict[str, Any], seed: int = 0) -> Weights:
    source = torch.Generator().manual_seed(seed)
    hidden, ffn, vocabulary = config["hidden_size"], config["ffn_hidden_size"], config["padded_vocab_size"]
    heads, groups, width = config["num_attention_heads"], config["multi_query_group_num"], config["kv_channels"]

    def normal(*shape: int, scale: float = 0.15, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=source) * scale + mean

    weights = {
        "transformer.embedding.word_embeddings.weight": normal(vocabulary, hidden, scale=1e-3),
        "transformer.rotary_pos_emb.inv_freq": normal(width // 4),
        "transformer.encoder.final_layernorm.weight": normal(hidden, mean=1.0),
        "transformer.output_layer.weight": normal(vocabulary, hidden),
    }
    for layer in range(config["num_layers"]):
        prefix = f"transformer.encoder.layers.{layer}."
        weights |= {
            prefix + "input_layernorm.weight": normal(hidden, mean=1.0),
            prefix + "post_attention_layernorm.weight": normal(hidden, mean=1.0),
            prefix + "self_attention.query_key_value.weight": normal((heads + 2 * groups) * width, hidden),
            prefix + "self_attention.dense.weight": normal(hidden, heads * width, scale=1e-3),
            prefix + "mlp.dense_h_to_4h.weight": normal(2 * ffn, hidden),
            prefix + "mlp.dense_4h_to_h.weight": normal(hidden, ffn, scale=1e-3),
        }
        if config["add_qkv_bias"]:
            weights[prefix + "self_attention.query_key_value.bias"] = normal((heads + 2 * groups) * width)
    return weights


def logits(config: dict[str, Any], weights: Weights, ids: Tensor) -> Tensor:
    """Float64 logits [token, vocabulary] of one sequence of ids [token]."""
    double = {name: weight.double() for name, weight in weights.items()}
    hidden = double["transformer.embedding.word_embeddings.weight"][ids]
    for layer in range(config["num_layers"]):
        own = {
            name.removeprefix(prefix): weight
            for prefix in [f"transformer.encoder.layers.{layer}."]
            for name, weight in double.items()
            if name.startswith(prefix)
        }
        normed = _normalised(hidden, own["input_layernorm.weight"], config["layernorm_epsilon"])
        hidden = hidden + _attention(config, own, normed)
        normed = _normalised(hidden, own["post_attention_layernorm.weight"], config["layernorm_epsilon"])
        gate, up = (normed @ own["mlp.dense_h_to_4h.weight"].T).chunk(2, dim=-1)
        hidden = hidden + (silu(gate) * up) @ own["mlp.dense_4h_to_h.weight"].T
    final = double["transformer.encoder.final_layernorm.weight"]
    hidden = _normalised(hidden, final, config["layernorm_epsilon"])
    return hidden @ double["transformer.output_layer.weight"].T


def _normalised(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * weight


def _attention(config: dict[str, Any], own: Weights, x: Tensor) -> Tensor:
    heads, groups, width = config["num_attention_heads"], config["multi_query_group_num"], config["kv_channels"]
    fused = x @ own["self_attention.query_key_value.weight"].T + own.get("self_attention.query_key_value.bias", 0.0)
    query, key, value = fused.tensor_split([heads * width, (heads + groups) * width], dim=-1)
    theta = 10_000.0 * config.get("rope_ratio", 1)
    query, key = (
        _rotated(query.reshape(-1, heads, width), theta),
        _rotated(key.reshape(-1, groups, width), theta),
    )
    value = value.reshape(-1, groups, width)
    mixed = torch.empty_like(query)
    for head in range(heads):
        group = head * groups // heads
        scores = query[:, head] @ key[:, group].T / width**0.5
        future = torch.ones_like(scores, dtype=torch.bool).triu(1)
        mixed[:, head] = scores.masked_fill(future, -torch.inf).softmax(-1) @ value[:, group]
    return mixed.flatten(1) @ own["self_attention.dense.weight"].T


def _rotated(x: Tensor, theta: float) -> Tensor:
    """Neighbouring pairs of each head's first half turn by their position [token, head, width]."""
    turning, width = x.shape[-1] // 2, x.shape[-1]
    speed = theta ** (-torch.arange(0, turning, 2, dtype=torch.float64) / turning)
    turn = torch.polar(torch.ones(1, dtype=torch.float64), torch.arange(len(x)).outer(speed))[:, None]
    pairs = torch.view_as_complex(x[..., :turning].reshape(*x.shape[:-1], -1, 2))
    return torch.cat([torch.view_as_real(pairs * turn).flatten(-2), x[..., turning:width]], dim=-1)


def write_checkpoint(directory: Path, config: dict[str, Any], weights: Weights, form: str) -> None:
    """An original directory; `form`: safetensors, sharded, bin, sharded_bin."""
    (directory / "config.json").write_text(json.dumps(config))
    suffix, prefix = ("bin", "pytorch_model") if form.endswith("bin") else ("safetensors", "model")
    names = list(weights)
    parts = [names[::2], names[1::2]] if form.startswith("sharded") else [names]
    placed: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file = f"{prefix}-{number:05}-of-{len(parts):05}.{suffix}" if len(parts) > 1 else f"{prefix}.{suffix}"
        tensors = {name: weights[name] for name in part}
        if suffix == "bin":
            torch.save(tensors, directory / file)
        else:
            save_file(tensors, directory / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(part, file)
    if len(parts) > 1:
        size = sum(weight.nbytes for weight in weights.values())
        index = {"metadata": {"total_size": size}, "weight_map": placed}
        (directory / f"{prefix}.{suffix}.index.json").write_text(json.dumps(index))
