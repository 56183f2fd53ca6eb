"""Ten thousand requests of every kind: nothing stays behind."""

import gc
import random
from typing import Any

import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.inference.engine import End, Failed, GenerationRequest, SamplingParams
from services.inference.native.attention import ATTENTION
from services.inference.native.runner import Runner
from services.inference.native.sequence import Sequence
from tests.test_services.test_inference.test_native.driving import Driven, request

REQUESTS = 10_000
SEATS = 24
# Of the process, between the first tenth of the requests and the end.
_MOST_GROWTH = 16 * 1024 * 1024


def random_request(dice: random.Random, name: str) -> GenerationRequest:
    sampling = SamplingParams(
        temperature=dice.choice([0.0, 0.7, 1.0]),
        top_p=dice.choice([0.5, 1.0]),
        top_k=dice.choice([0, 0, 5]),
        min_p=dice.choice([0.0, 0.1]),
        seed=dice.choice([None, 7]),
        repetition_penalty=dice.choice([1.0, 1.0, 1.2]),
        presence_penalty=dice.choice([0.0, 0.0, 0.5]),
        logit_bias=dice.choice([{}, {}, {3: -5.0}]),
        stop_ids=frozenset(dice.sample(range(30), 2)),
        logprobs=dice.choice([None, None, 0, 3]),
        prompt_logprobs=dice.choice([None, None, None, 2]),
    )
    prompt = [dice.randrange(30) for _ in range(dice.randint(1, 30))]
    tenant, n = dice.choice("abc"), dice.choice([1, 1, 1, 1, 3])
    return request(name, prompt, dice.randint(0, 5), tenant=tenant, n=n, sampling=sampling)


def test_memory_and_cache_return_to_where_they_began_after_ten_thousand_random_requests() -> None:
    torch.manual_seed(1)
    small: Any = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**small, vocab_size=30, max_position_embeddings=64, initializer_range=0.4)
    build: Any = LlamaForCausalLM._from_config
    dice, blocks = random.Random(5), 60
    runner = Runner(build(config, attn_implementation=ATTENTION).eval(), blocks=blocks, block_size=4, seats=SEATS)
    driven = Driven(runner, blocks, 4, max_running=SEATS, max_step_tokens=128, vocabulary=30)
    ends = failures = before = 0
    for index in range(REQUESTS):
        driven.core.submit(random_request(dice, str(index)))
        if dice.random() < 0.3:
            driven.core.abort(str(dice.randint(max(0, index - 40), index)))
        if dice.random() < 0.25 or index == REQUESTS - 1:
            driven.step()
        if index == REQUESTS // 10:
            gc.collect()
            before = psutil.Process().memory_info().rss
        if len(driven.events) > 5000:
            ends, failures = ends + count(driven, End), failures + count(driven, Failed)
            driven.events.clear()
    driven.finish()
    ends, failures = ends + count(driven, End), failures + count(driven, Failed)
    driven.events.clear()
    gc.collect()
    assert driven.emptied
    assert failures == 0
    assert ends > REQUESTS // 2
    # A seat remembers who sat there last.
    assert sum(type(each) is Sequence for each in gc.get_objects()) <= SEATS
    assert not driven.core._answers._open
    assert psutil.Process().memory_info().rss - before < _MOST_GROWTH


def count(driven: Driven, kind: type[End | Failed]) -> int:
    return sum(isinstance(event, kind) for event in driven.events)
