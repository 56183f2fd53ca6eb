"""What `/v1` asks of a real model: seeds, log-probabilities, formats; with the demo."""

import json
import math
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.process import KEY, environment, started_service

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "large": {"type": "boolean"}},
    "required": ["city", "large"],
    "additionalProperties": False,
}


class City(BaseModel):
    """What a city is."""

    city: str
    large: bool


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    path = tmp_path_factory.mktemp("demo")
    env = environment(path, engine="native", model="demo", bootstrap_api_key=KEY, threads=1, max_running=4)
    with (
        started_service(env, path / "log") as service,
        OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        yield client


def ask(client: OpenAI, **fields: Any) -> Any:
    model = client.models.list().data[0].id
    return client.chat.completions.create(**{"model": model, "messages": QUESTION, "max_tokens": 12, **fields})


def test_a_seed_says_the_same_again_and_another_one_does_not(client: OpenAI) -> None:
    # First, so that all of them find the prompt in the cache: in bfloat16 its computation rounds otherwise.
    ask(client, max_tokens=1)
    said = [ask(client, seed=seed, temperature=1.5).choices[0].message.content for seed in (1, 1, -2, 3)]
    assert said[0] == said[1]
    assert len(set(said)) > 1
    several = ask(client, seed=1, n=3, temperature=1.5)
    assert len({choice.message.content for choice in several.choices}) > 1
    assert several.usage.completion_tokens <= 36


def test_log_probabilities_are_of_the_answers_own_tokens(client: OpenAI) -> None:
    (choice,) = ask(client, temperature=0, logprobs=True, top_logprobs=3).choices
    tokens = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens if token.bytes).decode().strip() == choice.message.content
    for token in tokens:
        likeliest = [top.logprob for top in token.top_logprobs]
        assert len(likeliest) == 3
        assert likeliest == sorted(likeliest, reverse=True)
        # Greedy: what was said is what was likeliest.
        assert token.token == token.top_logprobs[0].token
        assert sum(map(math.exp, likeliest)) <= 1.0001
    with ask(client, temperature=0, logprobs=True, top_logprobs=3, stream=True) as chunks:
        streamed = [one for chunk in chunks for c in chunk.choices if c.logprobs for one in c.logprobs.content]
    assert streamed == tokens


def test_a_stop_string_and_a_bias_change_the_answer_and_cached_tokens_are_told(client: OpenAI) -> None:
    whole = ask(client, temperature=0)
    text = whole.choices[0].message.content
    assert "Paris" in text
    cut = ask(client, temperature=0, stop="Paris")
    assert cut.choices[0].message.content == text.partition("Paris")[0]
    assert cut.choices[0].finish_reason == "stop"
    biased = ask(client, temperature=0, logit_bias={"1000": 100}, logprobs=True).choices[0].logprobs.content
    assert len(biased) == 12
    assert len({token.token for token in biased}) == 1
    assert ask(client, temperature=0).usage.prompt_tokens_details.cached_tokens > 0


def test_an_answer_keeps_to_its_schema(client: OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    for seed in range(2):
        answer = ask(client, response_format=wanted, seed=seed, max_tokens=60)
        jsonschema.validate(json.loads(answer.choices[0].message.content), CITY)
    (choice,) = ask(client, response_format={"type": "json_object"}, temperature=0, max_tokens=20).choices
    assert choice.message.content.startswith("{")


def test_the_parse_helper_gives_an_object_of_the_class(client: OpenAI) -> None:
    model = client.models.list().data[0].id
    parsed = client.chat.completions.parse(
        model=model, messages=QUESTION, response_format=City, seed=1, temperature=0, max_tokens=100
    )
    assert isinstance(parsed.choices[0].message.parsed, City)


def test_a_schema_that_cannot_be_met_is_refused_before_any_byte(client: OpenAI) -> None:
    for schema in ({"type": "nothing"}, {"type": "string", "pattern": "("}, {"$ref": "#/nowhere"}):
        wanted = {"type": "json_schema", "json_schema": {"name": "none", "schema": schema}}
        with pytest.raises(openai.BadRequestError) as refused:
            ask(client, response_format=wanted, stream=True)
        assert refused.value.param == "response_format"


def test_a_chain_of_responses_finds_what_was_said_before_in_the_cache(client: OpenAI) -> None:
    model = client.models.list().data[0].id
    counted = "Remember this: " + " ".join(f"city number {at} is large." for at in range(40))
    first = client.responses.create(model=model, input=counted, temperature=0, max_output_tokens=8)
    fields: Any = {"model": model, "temperature": 0, "max_output_tokens": 4}
    second = client.responses.create(input="And now?", previous_response_id=first.id, **fields)
    said = [("user", counted), ("assistant", first.output_text), ("user", "And now?")]
    same = ask(client, messages=[{"role": role, "content": text} for role, text in said], temperature=0)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens == same.usage.prompt_tokens
    assert second.usage.input_tokens_details.cached_tokens > first.usage.input_tokens - 64 > 200


def test_a_model_that_has_not_learned_to_call_tools_says_so(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, tools=[{"type": "function", "function": {"name": "look"}}])
    assert refused.value.param == "tools"
