"""OpenAI's Agents SDK on `/v1/responses`: it calls two tools, one after the other, and answers."""

import json
from typing import Any

from agents import Agent, OpenAIConversationsSession, OpenAIResponsesModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI

from tests.openai_clients import MODEL, async_client
from tests.service import NEW_MESSAGE, Service, script

CONFIG = RunConfig(tracing_disabled=True)


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name.
    """
    # What a tool returns is the next script of the engine.
    return script(f'get_time\n{{"city": "{city}"}}')


@function_tool
def get_time(city: str) -> str:
    """The time in a city.

    Args:
        city: its name.
    """
    return script(f"It is sunny in {city}, at noon.")


def agent(client: AsyncOpenAI) -> Agent[Any]:
    model = OpenAIResponsesModel(model=MODEL, openai_client=client)
    return Agent(name="Guide", instructions="You help travellers.", tools=[get_weather, get_time], model=model)


QUESTION = script(f"get_weather\n{json.dumps({'city': 'Rome'})}")
ANSWER = "It is sunny in Rome, at noon."


async def test_an_agent_calls_two_tools_and_answers(service: Service) -> None:
    async with async_client(service) as client:
        result = await Runner.run(agent(client), QUESTION, run_config=CONFIG)
    assert result.final_output == ANSWER
    entries = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert [entry["response"] for entry in reversed(entries)] == [
        'get_weather({"city": "Rome"})',
        'get_time({"city": "Rome"})',
        ANSWER,
    ]


async def test_a_streamed_agent_says_the_same(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        result = Runner.run_streamed(agent(client), QUESTION, run_config=CONFIG)
        said = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
    assert result.final_output == "".join(said) == ANSWER


async def test_an_agent_goes_on_in_a_stored_conversation_and_over_responses(service: Service) -> None:
    made = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("Hello.")})).json()
    async with async_client(service) as client:
        conversation = f"conv_{made['conversation_id']}"
        within = await Runner.run(agent(client), QUESTION, run_config=CONFIG, conversation_id=conversation)
        chained = await Runner.run(agent(client), QUESTION, run_config=CONFIG, auto_previous_response_id=True)
        response = await client.responses.retrieve(chained.last_response_id or "")
    assert within.final_output == chained.final_output == response.output_text == ANSWER
    # Each of the agent's requests had only what was new; what came before was stored.
    asked = {"prompt": script("And now?"), "conversation_id": made["conversation_id"]}
    history = (await service.ours.post(NEW_MESSAGE, json=asked)).json()["history"]
    plain, with_tools = ["user", "assistant"], ["user", "assistant", *["tool", "assistant"] * 2]
    assert [one["role"] for one in history] == [*plain, *with_tools, *plain]


async def test_an_agents_session_is_a_stored_conversation(service: Service) -> None:
    async with async_client(service) as client:
        session = OpenAIConversationsSession(openai_client=client)
        first = await Runner.run(agent(client), QUESTION, run_config=CONFIG, session=session)
        second = await Runner.run(agent(client), script("And now?"), run_config=CONFIG, session=session)
        kinds = [item.get("type", "message") for item in await session.get_items()]
    assert (first.final_output, second.final_output) == (ANSWER, "And now?")
    calls = ["function_call", "function_call_output"]
    assert kinds == ["message", *calls, *calls, "message", "message", "message"]
