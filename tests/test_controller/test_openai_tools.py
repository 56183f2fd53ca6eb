"""Tools over `/v1`: offered, called, answered, with the official client; the engine's script writes the calls."""

import json
from typing import Any

from openai import AsyncOpenAI

from tests.openai_clients import CHAT, MODEL, WEATHER, asking, async_client, said
from tests.service import Service, script

# As GLM-4 writes calls: a message each, its first line the name.
CALL = 'get_weather\n{"city": "北京"}'


async def ask(client: AsyncOpenAI, **fields: Any) -> Any:
    fields |= {"model": MODEL, "tools": [WEATHER]}
    return await client.chat.completions.create(**fields)


async def test_a_call_goes_out_and_its_result_comes_back(service: Service) -> None:
    async with async_client(service) as client:
        messages = said(CALL)
        (choice,) = (await ask(client, messages=messages)).choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        (call,) = choice.message.tool_calls
        assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
            "function",
            "get_weather",
            {"city": "北京"},
        )
        # As the client's own examples do it: the message goes back as it came.
        result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": script("Sunny.")}
        answer = await ask(client, messages=[*messages, choice.message, result])
    assert answer.choices[0].message.content == "Sunny."
    assert answer.choices[0].finish_reason == "stop"
    entries = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert [entry["response"] for entry in entries] == ["Sunny.", 'get_weather({"city": "北京"})']
    assert entries[1]["finish_reason"] == "tool_calls"


async def test_a_streamed_call_has_id_type_and_name_once(service: Service) -> None:
    async with async_client(service) as client, await ask(client, messages=said(CALL), stream=True) as chunks:
        deltas = [choice async for chunk in chunks for choice in chunk.choices]
    assert deltas[0].delta.model_dump(exclude_unset=True) == {"role": "assistant", "content": None}
    (call,) = [call for choice in deltas for call in choice.delta.tool_calls or []]
    assert (call.index, call.type, call.function.name) == (0, "function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "北京"}
    assert deltas[-1].finish_reason == "tool_calls"


async def test_the_stream_helper_puts_a_call_together(service: Service) -> None:
    async with (
        async_client(service) as client,
        client.chat.completions.stream(model=MODEL, messages=said(CALL), tools=[WEATHER]) as events,  # type: ignore[list-item]
    ):
        final = (await events.get_final_completion()).choices[0]
    assert final.message.tool_calls is not None
    assert final.message.tool_calls[0].function.name == "get_weather"
    assert final.finish_reason == "tool_calls"


async def test_a_forced_call_begins_where_the_prompt_names_it(service: Service) -> None:
    choice = {"type": "function", "function": {"name": "get_weather"}}
    async with async_client(service) as client:
        answer = await ask(client, messages=said('{"city": "Rome"}'), tool_choice=choice)
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city": "Rome"}'


async def test_what_is_no_call_of_an_offered_tool_is_text(service: Service) -> None:
    async with async_client(service) as client:
        for say, fields in [("get_weather\nnot JSON", {}), (CALL, {"tool_choice": "none"})]:
            (choice,) = (await ask(client, messages=said(say), **fields)).choices
            assert (choice.message.content, choice.finish_reason, choice.message.tool_calls) == (say, "stop", None)


async def test_results_are_matched_to_calls_by_their_ids(service: Service) -> None:
    calls = [
        {"id": f"call_{city}", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        for city in ("a", "b")
    ]
    asked = {"role": "assistant", "content": None, "tool_calls": calls}
    results = [
        {"role": "tool", "tool_call_id": "call_b", "content": script("the second")},
        {"role": "tool", "tool_call_id": "call_a", "content": script("the first")},
    ]
    body = asking("hi", tools=[WEATHER])
    # The last message of the prompt is the second call's result, however they were sent.
    answer = await service.ours.post(CHAT, json=body | {"messages": [*body["messages"], asked, *results]})
    assert answer.json()["choices"][0]["message"]["content"] == "the second"
    for wrong in (results[:1], [results[0], results[0]], [*results, results[0]], []):
        refused = await service.ours.post(CHAT, json=body | {"messages": [*body["messages"], asked, *wrong]})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "messages"
