"""What can be said of a model before it is loaded: `python -m services.inference.native.inspection DIR`.

Prints a JSON object of what was found. If the model cannot be served here, `reason` says why, and the exit status is 1.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from services.inference.model_files import TokenizerError
from services.inference.native import attention, inventory, loader
from services.inference.native.errors import ModelError
from services.inference.native.model import local
from services.inference.native.runner import head_shape, token_bytes
from services.inference.prompt import PromptError, load_prompt_renderer
from services.inference.tokenizer import Tokenizer, load_tokenizer

_GIB = 1 << 30
# The least context with which a service is of use.
_LEAST_CONTEXT = 1024
_CGROUP = Path("/sys/fs/cgroup")


def inspect(directory: Path, device: torch.device, found: dict[str, Any]) -> None:
    """Look at a model's files, and write what is found into `found` as it is found.

    Raises:
        ModelError, TokenizerError: why it cannot be served on this device, and what to do.
    """
    attention.register()
    config = loader.read_config(directory)
    found["architecture"] = config.model_type
    found["context_window"] = window = loader.context_window(config)
    model = inventory.outline(config, attention.ATTENTION)
    found["parameters"] = model.num_parameters()
    inventory.check(directory, config, model)
    _step(config, model)
    tokenizer = load_tokenizer(directory)
    tokens = len(tokenizer.token_bytes)
    found["tokenizer"] = f"{type(tokenizer).__name__}, {tokens} tokens"
    if tokens > config.vocab_size:
        raise ModelError(f"The tokenizer has {tokens} tokens and the model {config.vocab_size}: they are not a pair.")
    found |= _conversations(directory, tokenizer)
    dtype = loader.choose_dtype(device)
    weights = found["parameters"] * dtype.itemsize
    token = token_bytes(config, dtype)
    found |= {"dtype": str(dtype).removeprefix("torch."), "weight_bytes": weights, "cache_bytes_per_token": token}
    found |= {"device": _name(device), "memory_bytes": (memory := _memory(device))}
    if weights + min(window, _LEAST_CONTEXT) * token > memory:
        raise ModelError(
            f"The model needs {weights / _GIB:.1f} GiB for its weights and {_LEAST_CONTEXT * token / _GIB:.1f} for "
            f"{_LEAST_CONTEXT} tokens of context, and {found['device']} has {memory / _GIB:.1f} GiB: "
            "use a smaller model or a larger machine."
        )
    found["context_that_fits"] = min(window, (memory - weights) // token)


def _conversations(directory: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """How it is spoken to. A model that only continues texts is served too."""
    try:
        renderer = load_prompt_renderer(directory, tokenizer)
    except PromptError as error:
        return {"prompt": f"none; {error}", "tools": False}
    return {"prompt": type(renderer).__name__, "tools": renderer.calls is not None}


def _step(config: PretrainedConfig, model: PreTrainedModel) -> None:
    """Go through a step without computing it: a kind of attention that the engine lacks is found on the way."""
    groups, width = head_shape(config)
    with torch.device("meta"), torch.inference_mode():
        cache = list(torch.empty(config.num_hidden_layers, 2, 1, 2, groups, width, dtype=model.dtype))
        ids = torch.zeros(1, 2, dtype=torch.int64)
        packed = attention.Packed(cache, ids[0], [attention.Row(0, 2, 0, 2, None, None)])
        try:
            model(input_ids=ids, position_ids=ids, use_cache=False, packed=packed)
        except (NotImplementedError, TypeError, AttributeError) as error:
            raise ModelError(f"The model's type ({config.model_type}) is not supported: {error}.") from error


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine"


def _memory(device: torch.device) -> int:
    """Bytes that are free for a model on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    free = int(known["MemAvailable"].split()[0]) * 1024
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and (most := limit.read_text("ascii").strip()) != "max":
        free = min(free, int(most) - int(used.read_text("ascii")))
    return free


def main() -> int:
    """Inspect one directory; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m services.inference.native.inspection")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args()
    cuda = arguments.device == "cuda" or (arguments.device == "auto" and torch.cuda.is_available())
    found: dict[str, Any] = {}
    try:
        inspect(local(arguments.directory), torch.device("cuda" if cuda else "cpu"), found)
    except (ModelError, TokenizerError) as error:
        found["reason"] = str(error)
    json.dump(found, sys.stdout, ensure_ascii=False)
    return 1 if "reason" in found else 0


if __name__ == "__main__":
    sys.exit(main())
