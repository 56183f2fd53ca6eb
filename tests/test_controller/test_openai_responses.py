"""`/v1/responses` as the official Python client meets it: whole, streamed, formatted, in the log."""

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI, OpenAIError
from pydantic import BaseModel

from tests.openai_clients import MODEL, async_client, key_of
from tests.service import Service, script

LIFECYCLE = {"response.created", "response.in_progress", "response.completed", "response.incomplete", "response.failed"}


async def events_of(client: AsyncOpenAI, **fields: Any) -> list[Any]:
    async with await client.responses.create(**{"model": MODEL, "stream": True, **fields}) as events:
        return [event async for event in events]


async def log_of(service: Service) -> list[dict[str, Any]]:
    """Our tenant's history, newest first."""
    messages: list[dict[str, Any]] = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    return messages


async def test_a_whole_response_has_the_shape_that_the_client_knows(service: Service) -> None:
    async with async_client(service) as client:
        answer = await client.responses.create(
            model=MODEL, input=script("你好 👩‍🚀"), instructions="Be brief.", metadata={"run": "7"}, user="ann"
        )
    assert (answer.object, answer.status, answer.error, answer.incomplete_details) == (
        "response",
        "completed",
        None,
        None,
    )
    assert answer.id.startswith("resp_")
    assert (answer.output_text, answer.instructions, answer.metadata) == ("你好 👩‍🚀", "Be brief.", {"run": "7"})
    (message,) = answer.output
    assert message.type == "message"
    assert (message.role, message.status, message.id[:4]) == ("assistant", "completed", "msg_")
    assert (answer.model, answer.tools, answer.tool_choice, answer.parallel_tool_calls) == (MODEL, [], "auto", True)
    assert answer.text is not None
    assert answer.text.format is not None
    assert answer.text.format.type == "text"
    assert answer.usage is not None
    # The scripted engine counts bytes, and the end.
    assert answer.usage.output_tokens == len("你好 👩‍🚀".encode()) + 1
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.input_tokens_details.cached_tokens == answer.usage.output_tokens_details.reasoning_tokens == 0
    (entry,) = await log_of(service)
    assert (entry["message_id"], entry["response"]) == (answer.id.removeprefix("resp_"), "你好 👩‍🚀")
    assert (await service.ours.get("/chat/get/messages/", params={"user": "ann"})).json()["messages"] == [entry]


async def test_the_streamed_events_put_together_are_the_whole_response(service: Service) -> None:
    async with async_client(service) as client:
        events = await events_of(client, input=script("one two"))
        whole = await client.responses.create(model=MODEL, input=script("one two"))
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1].response
    assert text == final.output_text == whole.output_text == events[-4].text
    assert events[-2].item == final.output[0]
    begun = next(event.response for event in events if event.type in LIFECYCLE)
    assert (begun.status, begun.output, begun.usage) == ("in_progress", [], None)
    own = {"id": "", "created_at": 0.0}
    assert final.model_copy(update={**own, "output": []}) == whole.model_copy(update={**own, "output": []})


async def test_a_texts_event_takes_as_many_numbers_as_it_has_characters(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        events = await events_of(client, input=script("abc👩‍🚀déf", rate=10_000, step=2))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    said = 0
    for event in deltas:
        said += len(event.delta)
        assert event.sequence_number == 3 + said
    assert [event.sequence_number for event in events if event not in deltas] == [
        0,
        1,
        2,
        3,
        *range(4 + said, 8 + said),
    ]


async def test_the_stream_helper_and_the_synchronous_client_understand_it(sqlite_service: Service) -> None:
    def ask() -> list[str]:
        with OpenAI(base_url=f"{sqlite_service.url}/v1", api_key=key_of(sqlite_service)) as client:
            with client.responses.stream(model=MODEL, input=script("streamed")) as events:
                seen = "".join(event.delta for event in events if event.type == "response.output_text.delta")
                streamed = events.get_final_response().output_text
            return [seen, streamed, client.responses.create(model=MODEL, input=script("whole")).output_text]

    assert await asyncio.to_thread(ask) == ["streamed", "streamed", "whole"]


async def test_messages_of_every_role_make_the_prompt_that_chat_completions_make(sqlite_service: Service) -> None:
    said: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": script("three")},
    ]
    plain = [{"role": one["role"], "content": one["content"]} for one in said]
    plain[1] = {"role": "user", "content": "one"}
    async with async_client(sqlite_service) as client:
        answer = await client.responses.create(model=MODEL, input=said, instructions="You count.")
        system: Any = {"role": "system", "content": "You count."}
        messages: Any = [system, *plain]
        same = await client.chat.completions.create(model=MODEL, messages=messages)
    assert answer.output_text == same.choices[0].message.content == "three"
    assert answer.usage is not None
    assert same.usage is not None
    assert answer.usage.input_tokens == same.usage.prompt_tokens


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_is_cut_is_incomplete(service: Service, streamed: bool) -> None:
    fields: Any = {"model": MODEL, "input": script("abcdef"), "max_output_tokens": 3}
    async with async_client(service) as client:
        if streamed:
            *_, done, last = await events_of(client, **fields)
            assert (last.type, done.item.status) == ("response.incomplete", "incomplete")
            answer = last.response
        else:
            answer = await client.responses.create(**fields)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (answer.output_text, answer.output[0].status) == ("abc", "incomplete")
    assert (await log_of(service))[0]["finish_reason"] == "length"


async def test_a_failure_in_mid_stream_is_an_event_and_a_whole_one_an_error(service: Service) -> None:
    broken = script("abcdef", fail_after=3)
    async with async_client(service) as client:
        last = (await events_of(client, input=broken))[-1]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert (last.response.error.code, last.response.error.message) == ("server_error", "The script says so.")
        assert last.response.output_text == "abc"
        with pytest.raises(OpenAIError, match="The script says so"):
            await client.responses.create(model=MODEL, input=broken)
    assert [entry["status"] for entry in await log_of(service)] == ["failed", "failed"]


class City(BaseModel):
    """What the model is asked for."""

    name: str
    people: int


async def test_a_format_comes_back_parsed(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        written = json.dumps({"name": "北京", "people": 22}, ensure_ascii=False)
        answer = await client.responses.parse(model=MODEL, input=script(written), text_format=City)
    assert answer.output_parsed == City(name="北京", people=22)
    assert answer.text is not None
    assert answer.text.format is not None
    assert answer.text.format.type == "json_schema"
    assert json.loads(json.dumps(answer.text.format.schema_))["properties"].keys() == {"name", "people"}


@pytest.mark.parametrize("streamed", [False, True])
async def test_log_probabilities_come_if_they_are_asked_for(sqlite_service: Service, streamed: bool) -> None:
    fields: Any = {
        "model": MODEL,
        "input": script("ab"),
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 1,
    }
    async with async_client(sqlite_service) as client:
        if streamed:
            events = await events_of(client, **fields)
            found = [one for event in events if event.type == "response.output_text.delta" for one in event.logprobs]
            assert [one.token for one in events[-1].response.output[0].content[0].logprobs] == ["a", "b"]
        else:
            found = (await client.responses.create(**fields)).output[0].content[0].logprobs
    assert [(one.token, one.logprob) for one in found] == [("a", 0.0), ("b", 0.0)]
    assert [[top.token for top in one.top_logprobs] for one in found] == [["a"], ["b"]]


async def test_a_client_that_leaves_cancels_its_response(service: Service) -> None:
    async with async_client(service) as client:
        asked: Any = {"model": MODEL, "input": script("a" * 1000, rate=20), "stream": True}
        async with await client.responses.create(**asked) as events:
            # It is told at once, before the model has said a word.
            assert (await anext(aiter(events))).type == "response.created"
    while (entry := (await log_of(service))[0])["status"] == "running":
        pass
    assert entry["status"] == "cancelled"


async def test_what_is_not_to_be_stored_leaves_only_numbers(service: Service) -> None:
    async with async_client(service) as client:
        await client.responses.create(model=MODEL, input=script("secret"), store=False, metadata={"a": "b"})
    (entry,) = await log_of(service)
    assert (entry["prompt"], entry["response"], entry["completion_tokens"]) == (None, None, 7)
