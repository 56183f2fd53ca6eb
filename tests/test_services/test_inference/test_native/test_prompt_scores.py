"""Log-probabilities of prompts: those of transformers' own forward, however the prompt is computed."""

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from services.inference.engine import Delta, End, GenerationRequest, PromptLogprobs, SamplingParams, TokenLogprobs
from services.inference.native.attention import ATTENTION
from services.inference.native.device_runner import DeviceRunner
from services.inference.native.sequence import Chunk, Drawn
from tests.test_services.test_inference.test_native.conftest import tiny_model
from tests.test_services.test_inference.test_native.driving import Driven, request
from tests.test_services.test_inference.test_native.test_device_runner import Padded, drive_fused
from tests.test_services.test_inference.test_native.test_runner import drive, generated

SCORED = SamplingParams(temperature=0, prompt_logprobs=3)
LENGTHS = [1, 2, 3, 8, 21, 40]
WAYS: dict[str, Callable[..., Driven]] = {
    "llama": lambda **bounds: plain("llama", **bounds),
    "glm": lambda **bounds: plain("glm", **bounds),
    "fused llama": lambda **bounds: drive_fused("llama", **bounds),
    "fused glm": lambda **bounds: drive_fused("glm", **bounds),
}


def plain(kind: str, *, step_tokens: int = 32, **bounds: Any) -> Driven:
    return drive(tiny_model(kind, ATTENTION), max_step_tokens=step_tokens, **bounds)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def reference(way: str) -> PreTrainedModel:
    return tiny_model(way.removeprefix("fused "), "sdpa")


def prompts(seed: int) -> list[GenerationRequest]:
    dice = random.Random(seed)
    return [
        request(f"{tenant}{length}", [dice.randrange(97) for _ in range(length)], 3, tenant=tenant, sampling=sampling)
        for length in LENGTHS
        for tenant, sampling in (("asks", SCORED), ("does not", SamplingParams(temperature=0)))
    ]


def assert_exact(driven: Driven, way: str, each: GenerationRequest) -> None:
    with torch.inference_mode():
        logits = reference(way)(torch.tensor([each.prompt_ids])).logits[0]
    exact = torch.log_softmax(logits.double(), -1)[:-1]
    found = driven.scores(each.id)
    assert len(found) == len(each.prompt_ids) - 1
    for row, token, said in zip(exact, each.prompt_ids[1:], found, strict=True):
        assert said.logprob == pytest.approx(float(row[token]), abs=1e-4)
        best = row.topk(each.sampling.prompt_logprobs or 0)
        assert [value for _, value in said.alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [token for token, _ in said.alternatives] == best.indices.tolist()


@pytest.mark.parametrize(
    "bounds",
    [
        {"step_tokens": 9},
        {"step_tokens": 200},
        {"step_tokens": 32, "max_step_scores": 1},
        {"step_tokens": 32, "max_step_scores": 5, "blocks": 200, "block_size": 1},
        {"step_tokens": 16, "blocks": 17},
    ],
    ids=str,
)
def test_prompts_are_scored_as_transformers_does_beside_requests_that_do_not_ask(
    way: str, bounds: dict[str, int]
) -> None:
    driven = WAYS[way](**bounds)
    asked = prompts(seed=3)
    for each in asked:
        driven.core.submit(each)
    driven.finish()
    for each in asked:
        if each.sampling is SCORED:
            assert_exact(driven, way, each)
        else:
            assert driven.scores(each.id) == []
        assert driven.text(each.id) == generated(reference(way), each)
    assert driven.emptied


@pytest.mark.parametrize("kind", ["llama", "glm"])
def test_prompts_that_are_padded_to_a_recorded_size_are_scored_alike(kind: str) -> None:
    driven = drive_fused(kind, step_tokens=64)
    assert isinstance(driven.runner, DeviceRunner)
    padded: Any = Padded(driven.runner)
    driven.runner._prompts = padded
    asked = prompts(seed=4)
    for each in asked:
        driven.core.submit(each)
    driven.finish()
    assert padded.sizes
    for each in asked:
        if each.sampling is SCORED:
            assert_exact(driven, kind, each)


def test_a_prompt_that_is_cached_is_computed_again_for_its_scores_and_shared_with_those_who_follow(way: str) -> None:
    driven = WAYS[way]()
    ids = list(range(1, 22))
    for name, sampling in (("first", SamplingParams(temperature=0)), ("scored", SCORED), ("last", SamplingParams())):
        driven.core.submit(request(name, ids, sampling=sampling))
        driven.finish()
    assert_exact(driven, way, request("scored", ids, sampling=SCORED))
    cached = [driven.last(name) for name in ("first", "scored", "last")]
    assert [end.cached_tokens for end in cached if isinstance(end, End)] == [0, 0, 20]
    firsts = [event for event in driven.events if isinstance(event, Delta) and event.id == "last"]
    assert [event.cached_tokens for event in firsts] == [20, 0, 0, 0]


def test_several_answers_share_one_scored_prompt(way: str) -> None:
    driven = WAYS[way]()
    asked = request("several", list(range(1, 14)), 4, n=3, sampling=SCORED)
    driven.core.submit(asked)
    driven.finish()
    assert_exact(driven, way, asked)
    assert driven.text("several", 2) == driven.text("several", 0) != []


@pytest.mark.parametrize("n", [1, 2])
def test_without_new_tokens_a_prompt_is_only_scored(way: str, n: int) -> None:
    driven = WAYS[way](step_tokens=9)
    # Whatever would be drawn after it would be a stop id.
    scored = SamplingParams(temperature=0, prompt_logprobs=3, stop_ids=frozenset(range(97)), logprobs=0)
    asked = request("scored", list(range(1, 14)), 0, n=n, sampling=scored)
    driven.core.submit(asked)
    driven.finish()
    assert_exact(driven, way, asked)
    *parts, _ = driven.events[: len(driven.events) - n + 1]
    assert all(isinstance(part, PromptLogprobs) for part in parts)
    assert driven.events[-n:] == [End("scored", "length", 13, 0, 0, index) for index in range(n)]
    assert driven.emptied


class Numbering:
    """A runner that scores each token of a prompt by its place in it."""

    def __init__(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self.scored: list[int] = []

    def launch(self, chunks: list[Chunk]) -> Callable[[], Drawn]:
        self.scored.append(sum(len(chunk.scores) for chunk in chunks))
        for chunk in chunks:
            assert set(chunk.scores) <= set(range(chunk.begin, chunk.end))
        scores = [[TokenLogprobs(float(at), []) for at in chunk.scores] for chunk in chunks if chunk.scores]
        drawn = Drawn([0 for chunk in chunks if chunk.samples], scores=scores)
        return lambda: drawn


@settings(deadline=None, max_examples=150)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5), st.booleans()), min_size=1, max_size=8),
    blocks=st.integers(18, 40),
    bound=st.integers(1, 12),
    slack=st.integers(1, 9),
    lookahead=st.integers(0, 1),
)
def test_every_token_is_scored_once_and_in_order_whatever_is_put_back(
    lengths: list[tuple[int, int, bool]], blocks: int, bound: int, slack: int, lookahead: int
) -> None:
    runner = Numbering(lookahead)
    driven = Driven(runner, blocks, 2, max_running=4, max_step_tokens=4 + slack, max_step_scores=bound)
    for index, (length, answer, asks) in enumerate(lengths):
        sampling = SCORED if asks else SamplingParams()
        driven.core.submit(request(str(index), [1] * length, answer, tenant="abc"[index % 3], sampling=sampling))
    driven.finish()
    for index, (length, answer, asks) in enumerate(lengths):
        places = [each.logprob for each in driven.scores(str(index))]
        assert places == list(range(length - 1 if asks else 0))
        assert len(driven.text(str(index))) == answer
    assert max(runner.scored) <= bound
    assert driven.emptied
