"""The fused decoder on CPU, where plain torch attends; the kernels have tests of their own."""

import random
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, MistralConfig

from services.inference.engine import End, GenerationRequest
from services.inference.native.decoder import Decoder, supported
from services.inference.native.device_runner import DeviceRunner
from services.inference.native.graphs import decode_sizes, graph_for, prompt_sizes
from services.inference.native.packing import Packing
from services.inference.native.paged import Backend, Cache
from services.inference.native.sampling import uniform
from tests.test_services.test_inference.test_native.conftest import SHAPE, tiny_config, tiny_model
from tests.test_services.test_inference.test_native.driving import Driven, request
from tests.test_services.test_inference.test_native.test_runner import LENGTHS, generated


@pytest.fixture(scope="module", params=["llama", "glm"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def requests() -> list[GenerationRequest]:
    dice = random.Random(4)
    return [
        request(str(length), [dice.randrange(97) for _ in range(length)], dice.randint(1, 24), tenant=str(length % 3))
        for length in LENGTHS
    ]


@pytest.fixture(scope="module")
def expected(kind: str, requests: list[GenerationRequest]) -> dict[str, list[int]]:
    model = tiny_model(kind, "sdpa")
    return {each.id: generated(model, each) for each in requests}


def drive_fused(
    kind: str,
    *,
    blocks: int = 50,
    block_size: int = 4,
    step_tokens: int = 32,
    backend: Backend = "sdpa",
    products: bool = False,
    max_step_scores: int | None = None,
) -> Driven:
    decoder = Decoder(tiny_model(kind, "sdpa"), window=128, products=products)
    shape = (len(decoder.layers), blocks, block_size, decoder.groups, decoder.width)
    cache = Cache(
        shape,
        heads=decoder.heads,
        cosines=decoder.cosines,
        sines=decoder.sines,
        dtype=decoder.dtype,
        backend=backend,
    )
    runner = DeviceRunner(decoder, cache, seats=8, window=128)
    return Driven(runner, blocks, block_size, max_step_tokens=step_tokens, max_step_scores=max_step_scores)


@pytest.mark.parametrize("step_tokens", [9, 16, 200])
@pytest.mark.parametrize(("blocks", "block_size"), [(50, 4), (17, 4), (200, 1), (13, 16)])
def test_the_fused_decoder_answers_as_transformers_does(
    kind: str,
    requests: list[GenerationRequest],
    expected: dict[str, list[int]],
    step_tokens: int,
    blocks: int,
    block_size: int,
) -> None:
    driven = drive_fused(kind, blocks=blocks, block_size=block_size, step_tokens=step_tokens)
    for each in requests:
        driven.core.submit(each)
    driven.finish()
    assert {each.id: driven.text(each.id) for each in requests} == expected
    assert driven.emptied


def test_the_fused_decoder_shares_prefixes(kind: str) -> None:
    driven = drive_fused(kind)
    first = request("first", list(range(1, 12)), 6)
    driven.core.submit(first)
    driven.finish()
    again = request("again", [*first.prompt_ids, *driven.text("first"), 30, 31, 32], 8)
    driven.core.submit(again)
    driven.finish()
    assert driven.last("again") == End("again", "length", 20, 16, 8)
    assert driven.text("again") == generated(tiny_model(kind, "sdpa"), again)


class Padded:
    """In place of recorded prompts: computes what they would, so that padding is tested where nothing is recorded."""

    def __init__(self, runner: DeviceRunner) -> None:
        self.runner = runner
        self.sizes: list[int] = []

    def size_for(self, count: int) -> int:
        return graph_for(prompt_sizes(128), count)

    def replay(self, size: int) -> torch.Tensor:
        self.sizes.append(size)
        rows = self.runner._rows
        plain = self.runner._plain([(first, count, *rest) for first, count, *rest in rows.T.tolist() if count])
        tokens = self.runner._tokens[:, :size]
        return self.runner._hidden(tokens, rows, rows[:2, :0], longest=size, plain=plain)


@pytest.mark.parametrize("step_tokens", [9, 64, 200])
def test_prompts_that_are_padded_to_a_recorded_size_are_answered_alike(
    kind: str, requests: list[GenerationRequest], expected: dict[str, list[int]], step_tokens: int
) -> None:
    driven = drive_fused(kind, step_tokens=step_tokens)
    assert isinstance(driven.runner, DeviceRunner)
    padded: Any = Padded(driven.runner)
    driven.runner._prompts = padded
    for each in requests:
        driven.core.submit(each)
    driven.finish()
    assert {each.id: driven.text(each.id) for each in requests} == expected
    assert set(padded.sizes) <= {64, 128}
    assert driven.emptied


def test_a_padded_step_has_its_size_and_covers_every_token_once() -> None:
    packing = Packing([5, 6, 7], [0, 1, 9], [2, 2, 0], [2], [(0, 2, 2, 2), (2, 1, 10, 0)], [])
    packing.pad(8, 5, seat=4)
    assert packing.ids == [5, 6, 7, 0, 0, 0, 0, 0]
    assert packing.positions == [0, 1, 9, 0, 1, 2, 3, 4]
    assert packing.seats == [2, 2, 0, 4, 4, 4, 4, 4]
    assert packing.rows == [(0, 2, 2, 2), (2, 1, 10, 0), (3, 0, 0, 4), (3, 0, 0, 4), (3, 5, 5, 4)]
    assert packing.longest == 5


def test_only_what_is_computed_alike_is_taken() -> None:
    assert supported(tiny_config("llama"))
    assert supported(tiny_config("glm"))
    assert not supported(LlamaConfig(**SHAPE, attention_bias=True))
    assert not supported(LlamaConfig(**SHAPE, hidden_act="gelu"))
    assert not supported(MistralConfig(**SHAPE))


def test_a_tokens_number_is_the_same_in_any_company_and_evenly_spread() -> None:
    numbers = torch.tensor([uniform(seed, index) for seed in range(100) for index in range(100)])
    assert uniform(5, 7) == numbers[507]
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = torch.histc(numbers, 20, 0, 1)
    assert ((counts - 500) ** 2 / 500).sum() < 19 + 4 * 38**0.5


@pytest.mark.parametrize("seats", [1, 2, 16, 256])
def test_every_batch_has_a_graph(seats: int) -> None:
    assert decode_sizes(seats)[-1] == seats


def test_a_batch_takes_the_smallest_graph_that_holds_it() -> None:
    recorded = list(reversed(decode_sizes(256)))
    assert [graph_for(recorded, count) for count in (1, 3, 8, 9, 65, 256, 257)] == [1, 4, 8, 16, 96, 256, 0]
    assert graph_for([], 1) == 0
