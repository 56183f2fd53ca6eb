"""A service with a tiny model that only goes on with texts, whose every number transformers can tell as well."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from services.inference.native import loader
from services.inference.native.build import build
from tests.service import Service, running_service
from tests.test_services.test_inference.vocabularies import write_byte_level, write_json

NAME = "tiny-base"


def write_model(directory: Path, *, marks_start: bool = True) -> Any:
    """A random Llama without a chat template, and the same in memory.

    `marks_start`: its tokenizer begins every text by a special token.
    """
    write_byte_level(directory)
    file = str(directory / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    begin = "<|endoftext|>"
    if marks_start:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
        tokenizer.save(file)
    names = {"bos_token": begin, "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(directory / "tokenizer_config.json", names)
    torch.manual_seed(11)
    shape: Any = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends: Any = {"bos_token_id": 0, "eos_token_id": 2}
    config = LlamaConfig(
        **shape, **ends, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=256, initializer_range=0.4
    )
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    return model.eval()


class Reference:
    """What transformers says of the model."""

    def __init__(self, directory: Path, *, marks_start: bool = True) -> None:
        self.model = write_model(directory, marks_start=marks_start)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)

    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """Of every token in each place, float64 [tokens, vocabulary]."""
        with torch.inference_mode():
            return torch.log_softmax(self.model(torch.tensor([ids])).logits[0].double(), -1)

    def scored(self, ids: list[int], context: int) -> tuple[float, bool]:
        """The sum over all tokens behind the context, and whether each was the likeliest."""
        rows = self.logprobs(ids)[context - 1 : -1]
        following = torch.tensor(ids[context:])
        chosen = rows.gather(-1, following.unsqueeze(-1))
        return float(chosen.sum()), bool((rows.argmax(-1) == following).all())

    def continued(self, ids: list[int], tokens: int) -> list[int]:
        """What greedy decoding adds, without the token that ends it."""
        made = self.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=tokens, do_sample=False
        )
        added: list[int] = made[0, len(ids) :].tolist()
        return [token for token in added if token != self.model.config.eos_token_id]


@asynccontextmanager
async def running_tiny_model(
    directory: Path, migrated_sqlite: Path, *, marks_start: bool = True, max_queued: int = 16
) -> AsyncIterator[tuple[Service, Reference]]:
    """The service on the model, and what its numbers have to be. Four requests run at once."""
    model = directory / NAME
    model.mkdir()
    reference = Reference(model, marks_start=marks_start)
    shutil.copy(migrated_sqlite, directory / "chatglm.db")
    with pytest.MonkeyPatch.context() as patch:
        # In bfloat16, which some processors multiply, numbers would be alike only roughly.
        patch.setattr(loader, "choose_dtype", lambda _device: torch.float32)
        core = build(
            str(model),
            cache_dir=directory / "cache",
            revision=None,
            max_running=4,
            device="cpu",
            attention="auto",
            progress=lambda _fraction, _stage: None,
        )
    url = f"sqlite:///{directory / 'chatglm.db'}"
    async with running_service(url, directory, core=core, max_queued=max_queued) as service:
        yield service, reference
