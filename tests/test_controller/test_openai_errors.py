"""What `/v1` refuses, and how the official client hears of it."""

import json
from typing import Any

import openai
import pytest

from schemas.completion_request_schema import CompletionRequest
from services.limit_service import Limits, LimitService
from tests.openai_clients import CHAT, MODEL, WEATHER, asking, async_client, said
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, script


def _calling(arguments: str) -> dict[str, Any]:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _strict(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "a", "strict": True, "parameters": parameters}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "critic", "content": "hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": None}]}, "messages.0"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": "hi", "name": "ann"}]}, "messages.0"),
    ({"messages": [{"role": "tool", "content": "hi", "tool_call_id": "call_1"}]}, "messages"),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "a"}]}]},
        "messages.0.tool_calls.0.function",
    ),
    ({"messages": [_calling("not JSON")]}, "messages.0.tool_calls"),
    ({"messages": [_calling("[]")]}, "messages.0.tool_calls"),
    ({"messages": [_calling('{"a":' * 500 + "1" + "}" * 500)]}, "messages.0.tool_calls"),
    ({"messages": [_calling('{"a":' * 50_000)]}, "messages.0.tool_calls"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "0.5"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"n": 0}, "n"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ""}, "stop.0"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
    ({"logit_bias": {"the": 1}}, "logit_bias.the.[key]"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice"),
    ({"tools": [WEATHER, WEATHER]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
    ({"tools": [_strict({"type": "object", "properties": {"a": {"type": 5}}})]}, "tools"),
    ({"tools": [_strict({"type": "string"})], "tool_choice": "required"}, "tools"),
    ({"tools": [_strict({"type": "object", "properties": {"a": {"type": 5}}})], "tool_choice": "required"}, "tools"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 5}}}},
        "response_format",
    ),
    ({"response_format": {"type": "json_object"}, "tools": [WEATHER]}, "response_format"),
    ({"store": "yes"}, "store"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"functions": []}, "functions"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
]


async def test_what_cannot_be_honoured_is_refused_by_name(sqlite_service: Service) -> None:
    for fields, param in REFUSED:
        for stream in (False, True):
            refused = await sqlite_service.ours.post(CHAT, json=asking("hi") | {"stream": stream} | fields)
            assert refused.status_code == 400, fields
            error = refused.json()["error"]
            assert (error["type"], error["param"]) == ("invalid_request_error", param), error
    assert (await sqlite_service.ours.get("/chat/get/messages/")).json()["messages"] == []


async def test_no_value_of_any_field_is_answered_with_a_server_error(sqlite_service: Service) -> None:
    deep = "[" * 500 + "]" * 500
    nested = '{"a":' * 500 + "1" + "}" * 500
    values = ["1e999", "NaN", str(10**30), r'"\ud800"', "[null]", deep, nested]
    cases = [(field, value) for field in CompletionRequest.model_fields for value in values]
    cases += [("tools", f'[{{"type": "function", "function": {{"name": "a", "parameters": {nested}}}}}]')]
    cases += [("response_format", f'{{"type": "json_schema", "json_schema": {{"name": "a", "schema": {nested}}}}}')]
    for field, value in cases:
        good = {name: json.dumps(given) for name, given in asking("hi", max_tokens=1).items()}
        body = ", ".join(f'"{name}": {given}' for name, given in (good | {field: value}).items())
        answer = await sqlite_service.ours.post(CHAT, content=f"{{{body}}}")
        assert answer.status_code in {200, 400, 404}, (field, value[:60], answer.text)
        assert answer.status_code == 200 or answer.json()["error"]["code"], answer.text


async def test_values_that_change_nothing_are_accepted(sqlite_service: Service) -> None:
    nothing = {
        "service_tier": "auto",
        "prompt_cache_key": "a key",
        "safety_identifier": "somebody",
        "modalities": ["text"],
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "logit_bias": {},
        "n": 1,
        "stop": None,
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "store": None,
        "stream_options": None,
    }
    answer = await sqlite_service.ours.post(CHAT, json=asking(script("hi"), **nothing))
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "hi"


async def test_the_clients_own_errors_are_raised_with_code_and_param(service: Service) -> None:
    async with async_client(service) as client, async_client(service, api_key="sk-nonsense") as stranger:
        with pytest.raises(openai.AuthenticationError) as unknown:
            await stranger.models.list()
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="gpt-4", messages=said("hi"))
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model=MODEL, messages=said("hi"), max_tokens=100_000)
        assert (unknown.value.code, missing.value.code, missing.value.param) == (
            "invalid_api_key",
            "model_not_found",
            "model",
        )
        assert (bad.value.code, bad.value.param) == ("context_length_exceeded", "max_tokens")
        with pytest.raises(openai.BadRequestError) as long:
            await client.chat.completions.create(model=MODEL, messages=said("x" * 10_000))
        assert (long.value.code, long.value.param) == ("context_length_exceeded", "messages")
        await LimitService(service.database).set(TESTER, service.our_id, Limits(requests_per_minute=0))
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model=MODEL, messages=said("hi"))
        assert (limited.value.code, limited.value.response.headers["x-ratelimit-limit-requests"]) == (
            "rate_limit_exceeded",
            "0",
        )


async def test_answers_are_reserved_and_limited_together(service: Service) -> None:
    await LimitService(service.database).set(TESTER, service.our_id, Limits(tokens_per_month=150))
    body = asking(script("hi"), max_tokens=50)
    assert (await service.ours.post(CHAT, json=body | {"n": 3})).status_code == 429
    assert (await service.ours.post(CHAT, json=body | {"n": 2})).status_code == 200


async def test_without_an_engine_the_client_hears_503_and_tries_again(service: Service) -> None:
    await service.engine_server.close()
    while (await service.nobody.get("/readyz")).status_code == 200:
        pass
    for stream in (False, True):
        async with async_client(service) as client:
            with pytest.raises(openai.InternalServerError) as unavailable:
                await client.chat.completions.create(**asking("hi", stream=stream))
        assert (unavailable.value.status_code, unavailable.value.code) == (503, "engine_unavailable")
        assert int(unavailable.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_breaks_off_raises_and_never_ends_well(service: Service, streamed: bool) -> None:
    asked: Any = asking(script("hello", fail_after=3))

    async def listen(client: openai.AsyncOpenAI) -> None:
        if not streamed:
            await client.chat.completions.create(**asked)
        async with await client.chat.completions.create(**asked, stream=True) as chunks:
            async for _ in chunks:
                pass

    async with async_client(service) as client:
        with pytest.raises(openai.APIError, match="The script says so"):
            await listen(client)
    body = asking(script("hello", fail_after=3), stream=True)
    text = (await service.ours.post(CHAT, json=body)).text
    assert "[DONE]" not in text
    assert '"finish_reason":"' not in text
    entries = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert {(entry["status"], entry["response"]) for entry in entries} == {("failed", "hel")}


async def test_the_models_are_those_that_the_key_may_use(service: Service) -> None:
    async with async_client(service) as client:
        (model,) = (await client.models.list()).data
        assert (model.id, model.object) == (MODEL, "model")
        assert await client.models.retrieve(MODEL) == model
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("org/other")
        assert missing.value.code == "model_not_found"
    made = await service.keys.create(TESTER, service.our_id, models=["other"])
    async with async_client(service, api_key=made.secret) as client:
        assert (await client.models.list()).data == []
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(MODEL)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model=MODEL, messages=said("hi"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (NEW_MESSAGE, {"prompt": "hi"}),
        (NEW_MESSAGE, {"prompt": "hi", "stream": True}),
        (NEW_MESSAGE, {"prompt": "hi", "background": True}),
        (CHAT, {"model": MODEL, "messages": said("hi")}),
        ("/v1/completions", {"model": MODEL, "prompt": "hi"}),
        ("/v1/completions", {"model": MODEL, "prompt": ["hi", "ho"], "stream": True}),
        ("/v1/responses", {"model": MODEL, "input": "hi"}),
        ("/v1/responses", {"model": MODEL, "input": "hi", "stream": True}),
        ("/v1/responses", {"model": MODEL, "input": "hi", "background": True}),
        ("/v1/responses/input_tokens", {"model": MODEL, "input": "hi"}),
        ("/v1/tokenize", {"prompt": "hi"}),
        ("/v1/tokenize", {"model": MODEL, "messages": said("hi")}),
        ("/v1/detokenize", {"tokens": [1]}),
        ("/v1/detokenize", {"model": MODEL, "tokens": [1]}),
    ],
)
async def test_a_key_for_other_models_is_told_that_there_is_none(
    sqlite_service: Service, path: str, body: dict[str, Any]
) -> None:
    assert (await sqlite_service.ours.post(path, json=body)).status_code in {200, 202}
    made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id, models=["other"])
    headers = {"Authorization": f"Bearer {made.secret}"}
    refused = await sqlite_service.ours.post(path, json=body, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
