"""A model without a chat template: `/v1/completions` with it, in the very requests of an evaluation harness."""

from collections.abc import AsyncIterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service
from tests.tiny_text_model import NAME, Reference, running_tiny_model

TEXTS = ["the model answers people", "philosophy of the world 2024", "the 你好 sophisticated token"]


@pytest.fixture(scope="module")
async def served(
    migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Service, Reference]]:
    async with running_tiny_model(tmp_path_factory.mktemp("base"), migrated_sqlite) as served:
        yield served


async def complete(service: Service, **body: Any) -> Any:
    answer = await service.ours.post("/v1/completions", json={"model": NAME, "temperature": 0, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_it_goes_on_with_texts_and_cannot_chat(served: tuple[Service, Reference]) -> None:
    service, reference = served
    assert (await service.ours.get("/readyz")).json()["status"] == "ready"
    asked = {"model": NAME, "messages": [{"role": "user", "content": "hi"}]}
    refused = await service.ours.post("/v1/chat/completions", json=asked)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unusable")
    assert "no chat template" in refused.json()["error"]["message"]
    for text in TEXTS:
        ids = reference.tokenizer(text).input_ids
        answer = await complete(service, prompt=text, max_tokens=12)
        expected = reference.tokenizer.decode(reference.continued(ids, 12), clean_up_tokenization_spaces=False)
        assert answer["choices"][0]["text"] == expected
        assert answer["usage"]["prompt_tokens"] == len(ids)


async def test_a_text_is_encoded_as_its_tokenizer_does_it_but_spells_no_special_token(
    served: tuple[Service, Reference],
) -> None:
    service, reference = served
    scored = await complete(service, prompt="<|im_end|>", echo=True, logprobs=0, max_tokens=0)
    tokens = scored["choices"][0]["logprobs"]["tokens"]
    assert tokens[0] == "<|endoftext|>"
    assert "".join(tokens[1:]) == "<|im_end|>"
    assert len(tokens) > len(reference.tokenizer("<|im_end|>").input_ids) == 2
    ids = (await service.ours.post("/v1/tokenize", json={"prompt": "the world"})).json()["tokens"]
    assert reference.tokenizer("the world").input_ids == [0, *ids]


@pytest.mark.parametrize("batch", [1, 3])
async def test_log_likelihoods_of_given_tokens_are_those_of_transformers(
    served: tuple[Service, Reference], batch: int
) -> None:
    """lm-evaluation-harness's `local-completions`, with tokens: one new token, which it drops, behind the echo."""
    service, reference = served
    asked = [(reference.tokenizer(text).input_ids, context) for text in TEXTS for context in (1, 3)]
    found: list[tuple[float, bool]] = []
    for at in range(0, len(asked), batch):
        part = asked[at : at + batch]
        answer = await complete(
            service, prompt=[ids for ids, _ in part], max_tokens=1, logprobs=1, seed=1234, echo=True
        )
        choices = sorted(answer["choices"], key=itemgetter("index"))
        for choice, (_, context) in zip(choices, part, strict=True):
            given = choice["logprobs"]["token_logprobs"][context:-1]
            likeliest = [max(top.values()) for top in choice["logprobs"]["top_logprobs"][context:-1]]
            found.append((sum(given), given == likeliest))
    for (ids, context), (total, greedy) in zip(asked, found, strict=True):
        expected, all_likeliest = reference.scored(ids, context)
        assert total == pytest.approx(expected, abs=1e-4)
        assert greedy == all_likeliest


async def test_a_greedy_continuation_is_told_from_another_also_where_the_text_ends(
    served: tuple[Service, Reference],
) -> None:
    service, reference = served
    ids = reference.tokenizer(TEXTS[0]).input_ids
    made = reference.continued(ids, 8)
    # The token that ends a text, as the last one and drawn behind the echo, is one among the others.
    for following in (made, [*made[:-1], 5], [*made, reference.model.config.eos_token_id]):
        whole = [*ids, *following]
        answer = await complete(service, prompt=[whole], max_tokens=1, logprobs=1, echo=True)
        logprobs = answer["choices"][0]["logprobs"]
        assert len(logprobs["tokens"]) == len(whole) + 1
        total, likeliest = reference.scored(whole, len(ids))
        assert sum(logprobs["token_logprobs"][len(ids) : -1]) == pytest.approx(total, abs=1e-4)
        tops = logprobs["top_logprobs"][len(ids) : -1]
        assert (logprobs["token_logprobs"][len(ids) : -1] == [max(top.values()) for top in tops]) == likeliest
    assert reference.scored([*ids, *made], len(ids))[1]


async def test_the_token_that_ends_an_answer_has_its_log_probability(served: tuple[Service, Reference]) -> None:
    service, reference = served
    ids = reference.tokenizer(TEXTS[0]).input_ids
    end = reference.model.config.eos_token_id
    answer = await complete(
        service, prompt=ids, max_tokens=5, logprobs=0, echo=True, logit_bias={str(end): 100}, stop=["never"]
    )
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["logprobs"]["tokens"][len(ids) :]) == ("stop", ["<|im_end|>"])
    expected = float(reference.logprobs(ids)[-1, end])
    assert choice["logprobs"]["token_logprobs"][-1] == pytest.approx(expected, abs=1e-4)
    assert answer["usage"]["completion_tokens"] == 1
