import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from services.inference.model_files import TokenizerError
from services.inference.native import inspection, loader
from services.inference.native.errors import ModelError
from tests.test_services.test_inference.test_chatglm.reference import (
    original_config,
    original_weights,
    write_checkpoint,
)
from tests.test_services.test_inference.test_native.conftest import SHAPE
from tests.test_services.test_inference.vocabularies import sentencepiece_model, write_chatglm3, write_glm4, write_json

CPU = torch.device("cpu")
CONFIG = original_config(padded_vocab_size=1280)


@pytest.fixture
def directory(tmp_path: Path, chatglm3_model: bytes) -> Path:
    """A whole ChatGLM3 directory, as it is published, only small."""
    write_chatglm3(tmp_path, chatglm3_model)
    write_checkpoint(tmp_path, CONFIG, original_weights(CONFIG), "sharded")
    return tmp_path


def inspected(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    inspection.inspect(directory, CPU, found)
    return found


def test_all_that_matters_is_found(directory: Path) -> None:
    found = inspected(directory)
    weights = original_weights(CONFIG)
    parameters = sum(tensor.numel() for name, tensor in weights.items() if "inv_freq" not in name)
    size = loader.choose_dtype(CPU).itemsize
    assert {name: found[name] for name in ("architecture", "context_window", "parameters", "tools", "prompt")} == {
        "architecture": "chatglm",
        "context_window": 512,
        "parameters": parameters,
        "tools": True,
        "prompt": "RoleRenderer",
    }
    assert found["weight_bytes"] == parameters * size
    assert found["cache_bytes_per_token"] == 2 * 3 * 2 * 16 * size
    assert found["context_that_fits"] == 512
    assert found["memory_bytes"] > 0


def test_glm4_is_inspected_as_it_is_published(tmp_path: Path, glm4_tokens: list[bytes]) -> None:
    config = original_config(padded_vocab_size=1024, rope_ratio=500, layernorm_epsilon=1.5625e-07)
    write_glm4(tmp_path, glm4_tokens)
    write_checkpoint(tmp_path, config, original_weights(config), "sharded")
    found = inspected(tmp_path)
    assert found["tokenizer"] == f"Glm4Tokenizer, {len(glm4_tokens) + 14} tokens"
    assert (found["prompt"], found["tools"]) == ("RoleRenderer", True)


def test_a_model_that_does_not_fit_is_told_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = inspected(directory)["weight_bytes"]
    monkeypatch.setattr(inspection, "_memory", lambda _device: needed + 1000)
    with pytest.raises(ModelError, match="smaller model or a larger machine"):
        inspected(directory)


def test_a_context_that_does_not_fit_whole_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = inspected(directory)
    memory = found["weight_bytes"] + 100 * found["cache_bytes_per_token"]
    monkeypatch.setattr(inspection, "_memory", lambda _device: memory)
    monkeypatch.setattr(inspection, "_LEAST_CONTEXT", 50)
    assert inspected(directory)["context_that_fits"] == 100


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inspection._memory(CPU)
    monkeypatch.setattr(inspection, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert inspection._memory(CPU) > whole // 2
    (tmp_path / "memory.max").write_text("5000\n")
    assert inspection._memory(CPU) == 4000


def test_a_model_that_only_continues_texts_is_served_and_told_apart(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    write_json(directory / "config.json", config | {"_name_or_path": "THUDM/chatglm3-6b-base"})
    found = inspected(directory)
    assert "not one for conversations" in found["prompt"]
    assert (found["tools"], found["context_that_fits"]) == (False, 512)


def test_each_reason_is_found_before_weights_are_read(directory: Path, tmp_path: Path) -> None:
    (directory / "tokenizer.model").write_bytes(b"nothing")
    with pytest.raises(TokenizerError, match="not a SentencePiece model"):
        inspected(directory)
    small = original_config()
    write_chatglm3(directory, sentencepiece_model())
    write_checkpoint(directory, small, original_weights(small), "sharded")
    with pytest.raises(ModelError, match="1209 tokens and the model 96"):
        inspected(directory)
    sliding = tmp_path / "sliding"
    MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16)).save_pretrained(sliding)
    with pytest.raises(ModelError, match=r"mistral.*sliding_window"):
        inspected(sliding)
