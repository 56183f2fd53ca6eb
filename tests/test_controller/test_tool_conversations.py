"""Conversations in which tools were called: the model is told the same by every way in."""

from typing import Any

import pytest

from services.inference.engine import GenerationRequest
from tests.openai_clients import CHAT, MODEL
from tests.rows import a_conversation, an_item
from tests.service import NEW_MESSAGE, Service, script

ARGUMENTS = '{"city": "北京"}'


@pytest.fixture
def prompts(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Of all that the engine is asked."""
    seen: list[list[int]] = []
    submit = service.core.submit

    def noted(request: GenerationRequest) -> None:
        seen.append(list(request.prompt_ids))
        submit(request)

    monkeypatch.setattr(service.core, "submit", noted)
    return seen


async def conversation_with_calls(service: Service, *, answered: bool = True) -> str:
    """Two calls at once, the second answered first; the id."""
    conversation = a_conversation(length=6)
    call: dict[str, Any] = {"type": "function_call", "role": "assistant", "text": ARGUMENTS, "name": "get_weather"}
    output: dict[str, Any] = {"type": "function_call_output", "role": "tool"}
    columns: list[dict[str, Any]] = [
        {"role": "developer", "text": "Be brief."},
        {"text": "How is it?"},
        call | {"call_id": "call_a"},
        call | {"call_id": "call_b"},
        output | {"call_id": "call_b", "text": "rain"},
        output | {"call_id": "call_a", "text": "sun"},
    ]
    rows = [an_item(conversation, position=at, **one) for at, one in enumerate(columns if answered else columns[:4])]
    async with service.database.begin(service.our_id) as session:
        session.add(conversation)
        await session.flush()
        session.add_all(rows)
    return conversation.id


async def test_a_conversation_with_calls_makes_the_same_prompt_on_chat_and_on_v1(
    service: Service, prompts: list[list[int]]
) -> None:
    conversation_id = await conversation_with_calls(service)
    body = {"prompt": script("Take a hat."), "conversation_id": conversation_id}
    answer = (await service.ours.post(NEW_MESSAGE, json=body)).json()
    assert answer["response"] == "Take a hat."
    assert [(one["role"], one["content"]) for one in answer["history"]][1:-2] == [
        ("user", "How is it?"),
        ("assistant", f"get_weather({ARGUMENTS})\nget_weather({ARGUMENTS})"),
        ("tool", "sun"),
        ("tool", "rain"),
    ]
    function = {"name": "get_weather", "arguments": ARGUMENTS}
    calls = [{"id": f"call_{one}", "type": "function", "function": function} for one in "ab"]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_b", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_a", "content": "sun"},
        {"role": "user", "content": body["prompt"]},
    ]
    assert (await service.ours.post(CHAT, json={"model": MODEL, "messages": messages})).status_code == 200
    assert prompts[0] == prompts[1]


async def test_a_call_that_waits_for_its_result_is_named_and_nothing_is_asked(
    service: Service, prompts: list[list[int]]
) -> None:
    conversation_id = await conversation_with_calls(service, answered=False)
    refused = await service.ours.post(NEW_MESSAGE, json={"prompt": "and?", "conversation_id": conversation_id})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "conversation_id"
    assert "call_a" in refused.json()["error"]["message"]
    assert prompts == []
