"""`/v1/completions` as the official Python client meets it, and what its turns are in the log."""

import asyncio
from typing import Any

import openai
import pytest

from services.limit_service import Limits, LimitService
from tests.openai_clients import MODEL, async_client
from tests.rows import TESTER
from tests.service import Service, script

ROUTE = "/v1/completions"


async def complete(service: Service, prompt: Any, **fields: Any) -> Any:
    async with async_client(service) as client:
        return await client.completions.create(**{"model": MODEL, "prompt": prompt, "max_tokens": 100, **fields})


async def log_of(service: Service) -> list[dict[str, Any]]:
    """Our tenant's history, oldest first."""
    messages: list[dict[str, Any]] = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    return messages[::-1]


async def test_a_whole_answer_has_the_shape_that_the_client_knows_and_a_row_in_the_log(service: Service) -> None:
    prompt = script("你好 👩‍🚀")
    answer = await complete(service, prompt, user="ann")
    (choice,) = answer.choices
    assert (answer.object, answer.model, answer.id[:5]) == ("text_completion", MODEL, "cmpl-")
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, "你好 👩‍🚀", "stop", None)
    (logged,) = await log_of(service)
    assert (logged["message_id"], logged["conversation_id"]) == (answer.id.removeprefix("cmpl-"), None)
    assert (logged["prompt"], logged["response"], logged["status"]) == (prompt, choice.text, "completed")
    # No template around it: the scripted engine's tokens are the bytes of the text.
    assert logged["prompt_tokens"] == answer.usage.prompt_tokens == len(prompt.encode())
    assert logged["completion_tokens"] == answer.usage.completion_tokens == len(choice.text.encode()) + 1


@pytest.mark.parametrize(
    "fields", [{}, {"n": 2, "echo": True, "logprobs": 2}, {"echo": True, "max_tokens": 0}], ids=str
)
async def test_the_streamed_answers_put_together_are_the_whole_ones(
    sqlite_service: Service, fields: dict[str, Any]
) -> None:
    prompts = [script("one two"), script("drei", rate=300)]
    async with async_client(sqlite_service) as client:
        asked: Any = {"model": MODEL, "prompt": prompts, "max_tokens": 100, **fields}
        whole = await client.completions.create(**asked)
        streamed = await client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        *chunks, usage = [chunk async for chunk in streamed]
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert {(chunk.id, chunk.object, chunk.usage) for chunk in chunks} == {(usage.id, "text_completion", None)}
    for expected in whole.choices:
        parts = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == expected.index]
        assert "".join(part.text for part in parts) == expected.text
        assert [part.finish_reason for part in parts if part.finish_reason] == [expected.finish_reason]
        scored = [part.logprobs for part in parts if part.logprobs]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            together = [each for part in scored for each in getattr(part, name)]
            assert together == (getattr(expected.logprobs, name) if expected.logprobs else [])


async def test_each_prompt_is_a_turn_of_its_own_and_answers_are_numbered_prompt_by_prompt(service: Service) -> None:
    prompts = [script("first", rate=200), script("second"), script("third")]
    answer = await complete(service, prompts, n=2, best_of=2)
    said = ["first", "first", "second", "second", "third", "third"]
    assert [(choice.index, choice.text) for choice in answer.choices] == list(enumerate(said))
    logged = await log_of(service)
    assert sorted((each["prompt"], each["response"]) for each in logged) == sorted(
        (prompt, f"{text}\n\n{text}") for prompt, text in zip(prompts, said[::2], strict=True)
    )
    for name in ("prompt_tokens", "completion_tokens"):
        assert getattr(answer.usage, name) == sum(each[name] for each in logged)


async def test_log_probabilities_are_of_prompt_and_answer_and_of_the_token_that_ended_it(
    sqlite_service: Service,
) -> None:
    # Prompts that are no scripts are answered with themselves.
    (choice,) = (await complete(sqlite_service, "né", echo=True, logprobs=1)).choices
    assert choice.text == "néYou said: né"
    expected = ["n", "bytes:\\xc3", "bytes:\\xa9", *"You said: n", "bytes:\\xc3", "bytes:\\xa9", "<|end|>"]
    assert choice.logprobs.tokens == expected
    assert choice.logprobs.token_logprobs == [None, *[0.0] * (len(expected) - 1)]
    assert choice.logprobs.top_logprobs == [None, *({token: 0.0} for token in expected[1:])]
    assert choice.logprobs.text_offset == [0, 1, 1, *range(2, 14), 13, 14]
    (plain,) = (await complete(sqlite_service, "né", logprobs=0, max_tokens=3)).choices
    assert (plain.text, plain.logprobs.tokens) == ("You", list("You"))
    assert plain.logprobs.top_logprobs == [{token: 0.0} for token in "You"]


async def test_a_prompt_alone_is_scored_without_a_new_token(service: Service) -> None:
    answer = await complete(service, "abc", echo=True, logprobs=0, max_tokens=0)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("abc", "length")
    assert choice.logprobs.token_logprobs == [None, 0.0, 0.0]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 0)
    assert [(each["response"], each["completion_tokens"]) for each in await log_of(service)] == [("", 0)]


async def test_token_ids_are_taken_as_they_are_and_the_log_says_what_they_stand_for(service: Service) -> None:
    user, end = 257, 259
    ids = [user, *script("hi").encode(), end]
    one = await complete(service, ids, echo=True, logprobs=0)
    assert one.choices[0].text == f"<|user|>{script('hi')}<|end|>hi"
    assert one.choices[0].logprobs.text_offset[:2] == [0, len("<|user|>")]
    two = await complete(service, [list(b"a\0b"), list(b"c")])
    assert [choice.text for choice in two.choices] == ["You said: ab", "You said: c"]
    # What no database can store is not in the log.
    first, *others = [each["prompt"] for each in await log_of(service)]
    assert (first, set(others)) == (f"<|user|>{script('hi')}<|end|>", {"ab", "c"})


async def test_a_text_cannot_spell_a_special_token(sqlite_service: Service) -> None:
    answer = await complete(sqlite_service, "<|user|>", echo=True)
    assert answer.choices[0].text == "<|user|>You said: <|user|>"
    assert answer.usage.prompt_tokens == len("<|user|>")


async def test_a_stop_string_ends_an_answer_and_sixteen_tokens_are_the_default(sqlite_service: Service) -> None:
    said = script("abcdefghijklmnopqrstuvwxyz")
    stopped = await complete(sqlite_service, said, stop=["x", "efg", *"123456789"])
    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == ("abcd", "stop")
    cut = await complete(sqlite_service, said, max_tokens=None)
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("abcdefghijklmnop", "length")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [1, True]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [10**30]}, "prompt"),
    ({"prompt": [[1], [999_999]]}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": "a\0b"}, "prompt"),
    ({"prompt": ["a"] * 65}, "prompt"),
    ({"prompt": ["a"] * 50, "n": 3}, "prompt"),
    ({"prompt": "a" * 8192}, "prompt"),
    ({"prompt": "a" * 8190}, "max_tokens"),
    ({"suffix": "end"}, "suffix"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"best_of": 2}, "best_of"),
    ({"n": 3, "best_of": 5}, "best_of"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1, "echo": True}, "max_tokens"),
    ({"logprobs": 6}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"messages": []}, "messages"),
    ({"store": True}, "store"),
]


async def test_what_cannot_be_honoured_is_refused_by_name_and_begins_no_turn(sqlite_service: Service) -> None:
    for fields, param in REFUSED:
        for stream in (False, True):
            body = {"model": MODEL, "prompt": "hi", **fields} | ({"stream": True} if stream else {})
            refused = await sqlite_service.ours.post(ROUTE, json=body)
            if stream and "stream_options" in fields:
                continue
            assert refused.status_code == 400, fields
            error = refused.json()["error"]
            assert (error["type"], error["param"]) == ("invalid_request_error", param), error
    unknown = await sqlite_service.ours.post(ROUTE, json={"model": "other", "prompt": "hi"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert [each["prompt"] for each in await log_of(sqlite_service)] == ["hi"]


async def test_if_one_prompt_is_refused_none_runs_on_and_no_byte_is_sent(service: Service) -> None:
    await LimitService(service.database).set(TESTER, service.our_id, Limits(requests_per_minute=2))
    prompts = [script("x", rate=1, repeat=1000)] * 3
    async with async_client(service) as client:
        with pytest.raises(openai.RateLimitError):
            await client.completions.create(model=MODEL, prompt=prompts, stream=True, max_tokens=100)
    while [each["status"] for each in await log_of(service)] != ["cancelled"] * 2:
        await asyncio.sleep(0)


async def test_a_client_that_leaves_cancels_all_its_turns(sqlite_service: Service) -> None:
    prompts = [script("x", rate=20, repeat=1000), script("y", pause=3600)]
    body = {"model": MODEL, "prompt": prompts, "stream": True, "max_tokens": 1000}
    async with sqlite_service.ours.stream("POST", ROUTE, json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                break
    while sorted(each["status"] for each in await log_of(sqlite_service)) != ["cancelled"] * 2:
        await asyncio.sleep(0)
    assert {each["response"][:1] for each in await log_of(sqlite_service)} == {"x", ""}


async def test_one_answer_that_fails_ends_the_stream_with_its_error_and_the_others_with_it(
    sqlite_service: Service,
) -> None:
    prompts = [script("x", rate=20, repeat=1000), script("yyy", fail_after=1)]
    body = {"model": MODEL, "prompt": prompts, "max_tokens": 1000}
    async with sqlite_service.ours.stream("POST", ROUTE, json=body | {"stream": True}) as response:
        streamed = (await response.aread()).decode()
    assert streamed.rstrip().rpartition("data: ")[2].startswith('{"error":')
    assert "[DONE]" not in streamed
    whole = await sqlite_service.ours.post(ROUTE, json=body)
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "generation_failed")
    while sorted(each["status"] for each in await log_of(sqlite_service)) != ["cancelled"] * 2 + ["failed"] * 2:
        await asyncio.sleep(0)


async def test_a_turn_that_is_not_to_be_stored_leaves_only_its_numbers(service: Service) -> None:
    async with async_client(service) as client:
        await client.completions.create(model=MODEL, prompt="secret", extra_body={"store": False})
    (logged,) = await log_of(service)
    assert (logged["prompt"], logged["response"], logged["prompt_tokens"]) == (None, None, 6)
