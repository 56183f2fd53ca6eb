import math
import random
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from services.inference.engine import Delta, End, Failed, GenerationRequest, SamplingParams
from services.inference.native.attention import ATTENTION
from services.inference.native.runner import Runner, damage, token_bytes
from tests.test_services.test_inference.test_native.conftest import tiny_config, tiny_model
from tests.test_services.test_inference.test_native.driving import Driven, request

LENGTHS = [1, 2, 3, 5, 8, 13, 21, 34, 40]


@pytest.fixture(scope="module", params=["llama", "glm", "glm4"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def requests(kind: str) -> list[GenerationRequest]:
    dice = random.Random(3)
    return [
        request(str(length), [dice.randrange(97) for _ in range(length)], dice.randint(1, 24), tenant=str(length % 3))
        for length in LENGTHS
    ]


@pytest.fixture(scope="module")
def expected(kind: str, requests: list[GenerationRequest]) -> dict[str, list[int]]:
    """What transformers itself generates, one request at a time, with a cache and attention of its own."""
    model = tiny_model(kind, "sdpa")
    return {each.id: generated(model, each) for each in requests}


def generated(model: PreTrainedModel, each: GenerationRequest) -> list[int]:
    prompt = torch.tensor([each.prompt_ids])
    mask = torch.ones_like(prompt)
    ids = model.generate(prompt, attention_mask=mask, max_new_tokens=each.max_tokens, do_sample=False)  # type: ignore[operator]
    answer: list[int] = ids[0, prompt.shape[1] :].tolist()
    return answer


@pytest.mark.parametrize("step_tokens", [5, 7, 16, 200])
@pytest.mark.parametrize("together", [True, False], ids=["together", "staggered"])
def test_greedy_answers_equal_those_of_transformers(
    kind: str, requests: list[GenerationRequest], expected: dict[str, list[int]], step_tokens: int, *, together: bool
) -> None:
    driven = drive(tiny_model(kind, ATTENTION), max_running=4, max_step_tokens=step_tokens)
    for each in requests:
        driven.core.submit(each)
        if not together:
            driven.step()
            driven.step()
    driven.finish()
    assert {each.id: driven.text(each.id) for each in requests} == expected


def drive(model: PreTrainedModel, *, blocks: int = 50, block_size: int = 4, **bounds: Any) -> Driven:
    return Driven(Runner(model, blocks=blocks, block_size=block_size, seats=8), blocks, block_size, **bounds)


@pytest.mark.parametrize("block_size", [1, 3, 16])
def test_answers_do_not_depend_on_the_size_of_a_block(
    kind: str, requests: list[GenerationRequest], expected: dict[str, list[int]], block_size: int
) -> None:
    driven = drive(tiny_model(kind, ATTENTION), blocks=200 // block_size, block_size=block_size)
    for each in requests:
        driven.core.submit(each)
    driven.finish()
    assert {each.id: driven.text(each.id) for each in requests} == expected


@pytest.mark.parametrize("step_tokens", [9, 40])
def test_answers_are_the_same_when_the_cache_is_too_small_for_all_of_them(
    kind: str, requests: list[GenerationRequest], expected: dict[str, list[int]], step_tokens: int
) -> None:
    driven = drive(tiny_model(kind, ATTENTION), blocks=17, max_step_tokens=step_tokens)
    back = 0
    for each in requests:
        driven.core.submit(each)
    while not driven.core.idle or not driven.core._inbox.empty():
        before = {sequence.request.id for sequence in driven.scheduler.running}
        driven.step()
        back += len(before & {sequence.request.id for sequence in driven.scheduler.waiting})
    assert back > 0
    assert {each.id: driven.text(each.id) for each in requests} == expected
    assert driven.emptied


def test_the_next_turn_of_a_conversation_computes_only_what_is_new(kind: str) -> None:
    model = tiny_model(kind, "sdpa")
    driven = drive(tiny_model(kind, ATTENTION), blocks=64)
    first = request("first", list(range(1, 12)), 6)
    driven.core.submit(first)
    driven.finish()
    again = request("again", [*first.prompt_ids, *driven.text("first"), 30, 31, 32], 8)
    stranger = request("stranger", again.prompt_ids, 8, tenant="other")
    driven.core.submit(again)
    driven.core.submit(stranger)
    driven.finish()
    assert driven.last("again") == End("again", "length", 20, 16, 8)
    assert driven.last("stranger") == End("stranger", "length", 20, 0, 8)
    assert driven.text("again") == driven.text("stranger") == generated(model, again)


def test_requests_at_once_share_what_they_begin_with(kind: str) -> None:
    model = tiny_model(kind, "sdpa")
    driven = drive(tiny_model(kind, ATTENTION), blocks=64)
    common = [index % 90 + 3 for index in range(21)]
    driven.core.submit(request("leads", common, 20))
    driven.step()
    alike = [request(str(index), [*common, index, 2], 9) for index in range(3)]
    for each in alike:
        driven.core.submit(each)
    driven.finish()
    for each in alike:
        assert driven.text(each.id) == generated(model, each)
        last = driven.last(each.id)
        assert isinstance(last, End)
        assert last.cached_tokens == 20
    assert driven.emptied


def test_a_row_of_nan_fails_alone_and_leaves_nothing_behind_in_the_cache(kind: str) -> None:
    model = tiny_model(kind, ATTENTION)
    weights = model.get_input_embeddings().weight
    assert isinstance(weights, torch.Tensor)
    weights.data[13] = math.nan
    driven = drive(model)
    good = request("good", [1, 2, 3], 8)
    driven.core.submit(request("bad", [1, 13, 2], 8))
    driven.core.submit(good)
    driven.finish()
    last = driven.last("bad")
    assert isinstance(last, Failed)
    assert last.kind == "generation_failed"
    again = request("again", [1, 2, 3], 8)
    driven.core.submit(again)
    driven.finish()
    answer = generated(tiny_model(kind, "sdpa"), good)
    assert driven.text("good") == answer
    assert driven.text("again") == answer


def test_a_failed_step_does_not_spoil_later_answers(expected: dict[str, list[int]], kind: str) -> None:
    model = tiny_model(kind, ATTENTION)
    driven = drive(model, vocabulary=10**6)
    driven.core.submit(request("outside", [1, 5000]))
    driven.finish()
    assert isinstance(driven.last("outside"), Failed)
    driven.core.submit(request("after", [1, 2, 3], 8))
    driven.finish()
    assert driven.text("after") == generated(tiny_model(kind, "sdpa"), request("after", [1, 2, 3], 8))


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.5, seed=11),
        SamplingParams(temperature=0.9, top_p=0.9, top_k=30, repetition_penalty=1.2, seed=11),
    ],
    ids=str,
)
def test_a_seeded_answer_is_the_same_alone_and_among_64_others(kind: str, params: SamplingParams) -> None:
    model, dice = tiny_model(kind, ATTENTION), random.Random(8)
    asked = request("asked", [5, 6, 7, 8], 25, sampling=params)
    alone = drive(model, blocks=700)
    alone.core.submit(asked)
    alone.finish()
    driven = Driven(Runner(model, blocks=700, block_size=4, seats=65), 700, 4, max_running=65, max_step_tokens=128)
    for index in range(64):
        prompt = [dice.randrange(97) for _ in range(dice.randint(1, 12))]
        others = SamplingParams(temperature=dice.choice([0.0, 1.0]), presence_penalty=dice.choice([0.0, 1.0]))
        driven.core.submit(request(str(index), prompt, dice.randint(5, 30), sampling=others))
        if index == 30:
            driven.core.submit(asked)
    driven.finish()
    assert driven.text("asked") == alone.text("asked")
    assert len(set(alone.text("asked"))) > 3


def test_log_probabilities_are_those_of_transformers_forward(kind: str) -> None:
    reference = tiny_model(kind, "sdpa")
    driven = drive(tiny_model(kind, ATTENTION))
    for length in (1, 9, 23):
        prompt = list(range(1, length + 1))
        driven.core.submit(request(str(length), prompt, 12, sampling=SamplingParams(temperature=1.0, logprobs=5)))
    driven.finish()
    for length in (1, 9, 23):
        prompt, answer = list(range(1, length + 1)), driven.text(str(length))
        with torch.inference_mode():
            logits = reference(torch.tensor([prompt + answer[:-1]])).logits[0, length - 1 :]
        exact = torch.log_softmax(logits.double(), -1)
        said = [event for event in driven.events if isinstance(event, Delta) and event.id == str(length)]
        for row, event in zip(exact, said, strict=True):
            assert event.logprobs is not None
            [reported] = event.logprobs
            assert reported.logprob == pytest.approx(float(row[event.token_ids[0]]), abs=1e-4)
            best = row.topk(5)
            assert [value for _, value in reported.alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)
            assert [token for token, _ in reported.alternatives] == best.indices.tolist()


def test_answers_to_one_prompt_equal_requests_of_their_own(kind: str) -> None:
    driven = drive(tiny_model(kind, ATTENTION), blocks=100)
    prompt = list(range(1, 22))
    driven.core.submit(request("several", prompt, 10, n=4, sampling=SamplingParams(temperature=1.0, seed=3)))
    driven.finish()
    texts = [driven.text("several", index) for index in range(4)]
    assert len({tuple(text) for text in texts}) == 4
    greedy = request("greedy", prompt, 10, n=3)
    driven.core.submit(greedy)
    driven.finish()
    assert [driven.text("greedy", index) for index in range(3)] == [generated(tiny_model(kind, "sdpa"), greedy)] * 3
    assert driven.emptied


def test_a_token_takes_keys_and_values_of_every_layer() -> None:
    assert token_bytes(tiny_config("llama"), torch.bfloat16) == 2 * 2 * 2 * 8 * 2


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), "device"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (MemoryError(), "memory"),
        (IndexError("index out of range in self"), "step"),
    ],
)
def test_an_error_is_told_by_what_it_has_broken(error: Exception, what: str) -> None:
    assert damage(error) == what


def test_a_processor_without_memory_is_told_from_a_bad_step() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.int8)
    assert damage(refused.value) == "memory"
