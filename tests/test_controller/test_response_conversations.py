"""Responses in stored conversations: the same rows that `/chat` reads and writes."""

from typing import Any

import pytest
from openai import BadRequestError, ConflictError, NotFoundError

from tests.openai_clients import MODEL, async_client
from tests.service import NEW_MESSAGE, Service, script
from tests.test_controller.test_response_tools import CALL, WEATHER

RESPONSES = "/v1/responses"


async def begun(service: Service, say: str, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = (await service.ours.post(NEW_MESSAGE, json={"prompt": script(say), **body})).json()
    return made


async def test_input_and_output_become_part_of_the_conversation(service: Service) -> None:
    made = await begun(service, "one")
    identifier = made["conversation_id"]
    async with async_client(service) as client:
        for named in (identifier, f"conv_{identifier}", {"id": f"conv_{identifier}"}):
            said: list[Any] = [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": script("two")},
            ]
            answer = await client.responses.create(model=MODEL, input=said, conversation=named, instructions="No.")  # type: ignore[arg-type]
            assert answer.conversation is not None
            assert answer.conversation.id == f"conv_{identifier}"
            assert (await client.responses.retrieve(answer.id)) == answer
    after = await begun(service, "three", conversation_id=identifier)
    roles = ["user", "assistant", *["developer", "user", "assistant"] * 3, "user", "assistant"]
    assert [one["role"] for one in after["history"]] == [role.replace("developer", "system") for role in roles]
    assert after["history"][4] == {"role": "assistant", "content": "two"}


async def test_a_call_in_a_conversation_is_answered_in_the_next_turn(sqlite_service: Service) -> None:
    conversation = f"conv_{(await begun(sqlite_service, 'one'))['conversation_id']}"
    tools: Any = [WEATHER]
    async with async_client(sqlite_service) as client:
        asked: Any = await client.responses.create(
            model=MODEL, input=script(CALL), conversation=conversation, tools=tools
        )
        with pytest.raises(BadRequestError, match="needs its result"):
            await client.responses.create(model=MODEL, input="And now?", conversation=conversation, tools=tools)
        result: Any = [{"type": "function_call_output", "call_id": asked.output[0].call_id, "output": script("Sunny.")}]
        answer = await client.responses.create(model=MODEL, input=result, conversation=conversation, tools=tools)
    assert answer.output_text == "Sunny."


async def test_a_conversation_takes_one_running_turn(service: Service) -> None:
    conversation = f"conv_{(await begun(service, 'one'))['conversation_id']}"
    fields: dict[str, Any] = {"model": MODEL, "conversation": conversation}
    async with (
        async_client(service) as client,
        await client.responses.create(input=script("a" * 1000, rate=20), stream=True, **fields) as events,
    ):
        await anext(aiter(events))
        with pytest.raises(ConflictError) as refused:
            await client.responses.create(input=script("two"), **fields)
        assert refused.value.code == "conversation_locked"
        assert refused.value.response.headers["retry-after"] == "1"


async def test_a_conversation_that_cannot_be_gone_on_with_is_refused(sqlite_service: Service) -> None:
    made = await begun(sqlite_service, "one")
    conversation: Any = f"conv_{made['conversation_id']}"
    async with async_client(sqlite_service) as client:
        with pytest.raises(NotFoundError) as missing:
            await client.responses.create(model=MODEL, input="hi", conversation="conv_" + "0" * 32)
        assert (missing.value.code, missing.value.param) == ("conversation_not_found", "conversation")
        with pytest.raises(BadRequestError) as unkept:
            await client.responses.create(model=MODEL, input="hi", conversation=conversation, store=False)
        assert unkept.value.param == "conversation"
        within = await client.responses.create(model=MODEL, input=script("two"), conversation=conversation)
        with pytest.raises(BadRequestError) as both:
            await client.responses.create(
                model=MODEL, input="hi", conversation=conversation, previous_response_id=within.id
            )
        assert both.value.param == "conversation"
        # The response alone is not all that was said before it.
        with pytest.raises(BadRequestError, match="belongs to a conversation"):
            await client.responses.create(model=MODEL, input="hi", previous_response_id=within.id)


async def test_an_erased_response_is_no_longer_part_of_its_conversation(sqlite_service: Service) -> None:
    identifier = (await begun(sqlite_service, "one"))["conversation_id"]
    async with async_client(sqlite_service) as client:
        answer = await client.responses.create(model=MODEL, input=script("two"), conversation=identifier)
        await client.responses.delete(answer.id)
    after = await begun(sqlite_service, "three", conversation_id=identifier)
    assert [one["content"] for one in after["history"]] == [script("one"), "one", script("three"), "three"]
