"""Functions over `/v1/responses`: offered, called, answered, with the official client; the engine's script calls."""

import json
from typing import Any

import pytest
from openai import AsyncOpenAI, InternalServerError

from tests.openai_clients import MODEL, async_client
from tests.service import Service, script

RESPONSES = "/v1/responses"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
# As GLM-4 writes calls: a message each, its first line the name.
CALL = 'get_weather\n{"city": "北京"}'


async def ask(client: AsyncOpenAI, **fields: Any) -> Any:
    return await client.responses.create(**{"model": MODEL, "tools": [WEATHER], **fields})


async def test_a_call_goes_out_and_its_result_comes_back(service: Service) -> None:
    async with async_client(service) as client:
        said: list[Any] = [{"role": "user", "content": script(CALL)}]
        answer = await ask(client, input=said)
        (call,) = answer.output
        assert (call.type, call.status, call.name) == ("function_call", "completed", "get_weather")
        assert json.loads(call.arguments) == {"city": "北京"}
        assert (call.id[:3], call.call_id[:5]) == ("fc_", "call_")
        # As the client's own examples do it: the output goes back as it came.
        said += answer.output
        said.append({"type": "function_call_output", "call_id": call.call_id, "output": script("Sunny.")})
        last = await ask(client, input=said)
    assert (last.output_text, last.status) == ("Sunny.", "completed")
    entries = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert [entry["response"] for entry in entries] == ["Sunny.", 'get_weather({"city": "北京"})']


async def test_a_call_is_streamed_in_its_own_events(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client, await ask(client, input=script(CALL), stream=True) as stream:
        events = [event async for event in stream]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(7))
    added, delta, done, item, last = events[2:]
    assert (added.item.arguments, added.item.status) == ("", "in_progress")
    assert delta.delta == done.arguments == item.item.arguments
    assert {delta.item_id, done.item_id, item.item.id} == {added.item.id}
    assert last.response.output == [item.item]


async def test_the_stream_helper_puts_a_call_together(sqlite_service: Service) -> None:
    tools: Any = [WEATHER]
    async with (
        async_client(sqlite_service) as client,
        client.responses.stream(model=MODEL, input=script(CALL), tools=tools) as events,
    ):
        (call,) = (await events.get_final_response()).output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "北京"}


async def test_calls_and_results_make_the_prompt_that_chat_completions_make(sqlite_service: Service) -> None:
    calls = [
        {"type": "function_call", "call_id": f"call_{city}", "name": "get_weather", "arguments": f'{{"city":"{city}"}}'}
        for city in "ab"
    ]
    results = [
        {"type": "function_call_output", "call_id": "call_b", "output": script("the second")},
        {"type": "function_call_output", "call_id": "call_a", "output": [{"type": "input_text", "text": "the first"}]},
    ]
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Let me see."}, *calls, *results]
    chat = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": call["call_id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in calls
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "the first"},
        {"role": "tool", "tool_call_id": "call_b", "content": script("the second")},
    ]
    tool = {"type": "function", "function": {key: WEATHER[key] for key in ("name", "description", "parameters")}}
    async with async_client(sqlite_service) as client:
        answer = await ask(client, input=said)
        messages: Any = chat
        tools: Any = [tool]
        same = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    # The last message of the prompt is the second call's result, however they were sent.
    assert answer.output_text == same.choices[0].message.content == "the second"
    assert same.usage is not None
    assert answer.usage.input_tokens == same.usage.prompt_tokens


async def test_a_forced_call_begins_where_the_prompt_names_it(sqlite_service: Service) -> None:
    choice = {"type": "function", "name": "get_weather"}
    async with async_client(sqlite_service) as client:
        answer = await ask(client, input=script('{"city": "Rome"}'), tool_choice=choice)
    assert answer.output[0].arguments == '{"city": "Rome"}'
    assert answer.tool_choice.name == "get_weather"


async def test_calls_and_results_that_do_not_belong_together_are_refused(sqlite_service: Service) -> None:
    call = {"type": "function_call", "call_id": "call_a", "name": "get_weather", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "call_a", "output": "1"}
    user = {"role": "user", "content": "hi"}
    for wrong in (
        [result],
        [call],
        [call, user],
        [call, call, result],
        [call, result, result],
        [call, call | {"call_id": "call_b"}, result, call | {"call_id": "call_c"}],
    ):
        refused = await sqlite_service.ours.post(RESPONSES, json={"model": MODEL, "input": wrong, "tools": [WEATHER]})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input"), wrong


async def test_a_strict_function_is_called_as_its_schema_says_or_the_answer_fails(sqlite_service: Service) -> None:
    tools = [WEATHER | {"strict": True}]
    async with async_client(sqlite_service) as client:
        answer = await ask(client, input=script(CALL), tools=tools)
        assert (answer.output[0].name, answer.tools[0].strict) == ("get_weather", True)
        wrong = script('get_weather\n{"town": "Rome"}')
        with pytest.raises(InternalServerError, match="its schema does not allow") as failed:
            await ask(client, input=wrong, tools=tools)
        assert failed.value.code == "generation_failed"
        async with await ask(client, input=wrong, tools=tools, stream=True) as stream:
            events = [event async for event in stream]
        assert (events[-1].type, events[-1].response.output_text) == ("response.failed", "")
        assert not any(event.type.startswith("response.function_call") for event in events)
        assert (await ask(client, input=wrong)).output[0].arguments == '{"town": "Rome"}'
        chat: Any = {"messages": [{"role": "user", "content": wrong}], "model": MODEL}
        names = ("name", "parameters", "strict")
        function: Any = {"type": "function", "function": {name: tools[0][name] for name in names}}
        with pytest.raises(InternalServerError):
            await client.chat.completions.create(tools=[function], **chat)
