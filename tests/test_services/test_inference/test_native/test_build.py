import queue
from pathlib import Path

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from services.inference.engine import End, Event
from services.inference.native import loader
from services.inference.native.build import build
from services.inference.native.core import NativeCore
from services.inference.native.device import Attention
from services.inference.native.device_runner import DeviceRunner
from services.inference.native.errors import ModelError
from services.inference.native.runner import Runner, token_bytes
from tests.test_services.test_inference.test_native.conftest import SHAPE, tiny_config, tiny_model
from tests.test_services.test_inference.test_native.driving import request


def quiet(fraction: float, stage: str) -> None: ...


def make(
    directory: Path, *, cache_bytes: int = 1 << 20, attention: Attention = "auto", max_running: int | None = 4
) -> NativeCore:
    return build(
        str(directory),
        cache_dir=directory,
        revision=None,
        max_running=max_running,
        device="cpu",
        attention=attention,
        progress=quiet,
        cache_bytes=cache_bytes,
    )


def test_a_directory_becomes_an_engine_that_answers(tmp_path: Path) -> None:
    tiny_model("glm", "sdpa").save_pretrained(tmp_path)
    core = make(tmp_path)
    events: queue.Queue[list[Event]] = queue.Queue()
    core.start(events.put)
    core.submit(request("r", max_tokens=2))
    seen = [event for _ in range(2) for event in events.get(timeout=60)]
    core.close()
    assert seen[-1] == End("r", "length", 3, 0, 2)
    assert core.limits.context_window == 128
    assert core.limits.vocabulary == 97
    assert core.limits.tokenizer == str(tmp_path.resolve())
    assert not core.limits.demo


def test_the_context_window_is_no_longer_than_the_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_model("llama", "sdpa").save_pretrained(tmp_path)
    dtype = loader.choose_dtype(torch.device("cpu"))
    core = make(tmp_path, cache_bytes=50 * token_bytes(tiny_config("llama"), dtype))
    assert core.limits.context_window == 48
    assert "context of" in caplog.text


def test_a_model_with_an_attention_that_the_engine_lacks_is_refused(tmp_path: Path) -> None:
    MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"mistral.*sliding_window"):
        make(tmp_path)


def test_no_room_for_a_cache_is_refused(tmp_path: Path) -> None:
    tiny_model("llama", "sdpa").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no memory"):
        make(tmp_path, cache_bytes=10)


def test_a_cpu_computes_sixteen_answers_at_once_unless_told_otherwise(tmp_path: Path) -> None:
    tiny_model("llama", "sdpa").save_pretrained(tmp_path)
    assert make(tmp_path, max_running=None).limits.max_running == 16
    assert make(tmp_path, max_running=3).limits.max_running == 3


def test_an_attention_that_does_not_run_here_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    tiny_model("llama", "sdpa").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"CHATGLM_ATTENTION=triton .* NVIDIA card"):
        make(tmp_path, attention="triton")


def test_a_model_without_a_fused_decoder_is_generated_with_by_transformers_own_class(tmp_path: Path) -> None:
    torch.manual_seed(1)
    MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)).save_pretrained(tmp_path)
    assert isinstance(make(tmp_path)._runner, Runner)


@pytest.mark.parametrize("kind", ["llama", "glm"])
def test_llama_and_glm_run_fused_on_a_cpu(tmp_path: Path, kind: str) -> None:
    tiny_model(kind, "sdpa").save_pretrained(tmp_path)
    assert isinstance(make(tmp_path)._runner, DeviceRunner)
