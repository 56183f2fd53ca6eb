"""Stored responses with the official client: shown again, gone on from, listed, erased."""

from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, ConflictError, NotFoundError

from services.inference.engine import GenerationRequest
from services.inference.scripted import ScriptedCore
from services.tenant_service import TenantService
from tests.openai_clients import MODEL, async_client
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, script
from tests.test_controller.test_response_tools import CALL, WEATHER
from tests.whole_database import columns_holding

RESPONSES = "/v1/responses"
SECRET = "a word that must not be kept"


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The token ids of all prompts that the engine gets."""
    seen: list[list[int]] = []
    submit = ScriptedCore.submit

    def watched(core: ScriptedCore, request: GenerationRequest) -> None:
        seen.append(request.prompt_ids)
        submit(core, request)

    monkeypatch.setattr(ScriptedCore, "submit", watched)
    return seen


async def ask(client: AsyncOpenAI, prompt: Any, **fields: Any) -> Any:
    return await client.responses.create(**{"model": MODEL, "input": prompt, **fields})


async def test_a_response_is_shown_again_as_it_was_answered(service: Service) -> None:
    fields: dict[str, Any] = {
        "instructions": "Be brief.",
        "metadata": {"run": "7"},
        "tools": [WEATHER],
        "tool_choice": "auto",
        "temperature": 0.5,
        "max_output_tokens": 100,
        "parallel_tool_calls": False,
        "user": "ann",
        "safety_identifier": "a",
        "prompt_cache_key": "b",
        "truncation": "auto",
    }
    async with async_client(service) as client:
        for prompt in (script("你好"), script(CALL)):
            answer = await ask(client, prompt, **fields)
            assert answer.store is True
            assert await client.responses.retrieve(answer.id) == answer
        async with await ask(client, script("abc"), max_output_tokens=2, stream=True) as events:
            final = [event async for event in events][-1].response
        assert final.status == "incomplete"
        assert await client.responses.retrieve(final.id) == final


async def test_a_chain_of_twenty_has_the_prompt_of_its_messages(service: Service, prompts: list[list[int]]) -> None:
    messages: list[Any] = []
    previous: dict[str, str] = {}
    async with async_client(service) as client:
        for at in range(20):
            asked = script(f"answer {at}")
            answer = await ask(client, asked, **previous)
            messages.append({"role": "user", "content": asked})
            if at in {1, 19}:
                await client.chat.completions.create(model=MODEL, messages=messages)
                assert prompts[-1] == prompts[-2]
            messages.append({"role": "assistant", "content": answer.output_text})
            previous = {"previous_response_id": answer.id}
            assert answer.output_text == f"answer {at}"
    assert len(prompts) == 22


async def test_tools_go_round_over_a_chain(sqlite_service: Service, prompts: list[list[int]]) -> None:
    async with async_client(sqlite_service) as client:
        asked = await ask(client, script(CALL), tools=[WEATHER])
        result = {
            "type": "function_call_output",
            "call_id": asked.output[0].call_id,
            "output": script("Sunny."),
        }
        answer = await ask(client, [result], tools=[WEATHER], previous_response_id=asked.id)
        assert (answer.output_text, answer.previous_response_id) == ("Sunny.", asked.id)
        whole = [{"role": "user", "content": script(CALL)}, asked.output[0], result]
        await ask(client, whole, tools=[WEATHER])
        assert prompts[-1] == prompts[-2]
        with pytest.raises(BadRequestError, match="needs its result"):
            await ask(client, "And now?", tools=[WEATHER], previous_response_id=asked.id)


async def test_instructions_do_not_carry_over(sqlite_service: Service, prompts: list[list[int]]) -> None:
    async with async_client(sqlite_service) as client:
        first = await ask(client, script("one"), instructions="Speak Latin.")
        await ask(client, script("two"), previous_response_id=first.id, instructions="Speak Greek.")
    last = bytes(token for token in prompts[-1] if token < 256).decode()
    assert last.startswith("Speak Greek.")
    assert "Latin" not in last


async def test_what_a_response_goes_on_from_must_be_there(service: Service) -> None:
    async with async_client(service) as client:
        first = await ask(client, script("one"))
        second = await ask(client, script("two"), previous_response_id=first.id)
        unstored = await ask(client, script("three"), previous_response_id=second.id, store=False)
        assert unstored.store is False
        failed = await service.ours.post(RESPONSES, json={"model": MODEL, "input": script("no", fail_after=1)})
        assert failed.status_code == 503
        (entry, *_) = (await service.ours.get("/chat/get/messages/")).json()["messages"]
        await client.responses.delete(first.id)
        for gone in (first.id, second.id, unstored.id, f"resp_{entry['message_id']}", "resp_0", "nonsense"):
            with pytest.raises(BadRequestError) as refused:
                await ask(client, script("four"), previous_response_id=gone)
            assert refused.value.code == "previous_response_not_found"
            assert refused.value.param == "previous_response_id"


async def test_what_is_erased_is_gone_for_good(service: Service) -> None:
    async with async_client(service) as client:
        answer = await ask(client, script(SECRET), instructions=SECRET, metadata={"a": SECRET})
        assert await columns_holding(service.database, SECRET) != set()
        deleted = await service.ours.delete(f"{RESPONSES}/{answer.id}")
        assert deleted.json() == {"id": answer.id, "object": "response.deleted", "deleted": True}
        assert await columns_holding(service.database, SECRET) == set()
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(answer.id)
        with pytest.raises(NotFoundError):
            await client.responses.delete(answer.id)
    assert (await service.ours.get("/v1/usage")).json()["data"][0]["requests"] == 1


async def test_a_running_response_cannot_be_erased(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        asked: Any = {"model": MODEL, "input": script("a" * 1000, rate=20), "stream": True}
        async with await client.responses.create(**asked) as events:
            begun: Any = await anext(aiter(events))
            refused = await sqlite_service.ours.delete(f"{RESPONSES}/{begun.response.id}")
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "turn_running")
            with pytest.raises(ConflictError) as early:
                await ask(client, script("two"), previous_response_id=begun.response.id)
            assert early.value.code == "turn_running"
            shown = await client.responses.retrieve(begun.response.id)
            assert (shown.status, shown.output, shown.usage) == ("in_progress", [], None)
        while (await client.responses.retrieve(begun.response.id)).status == "in_progress":
            pass
        assert (await client.responses.retrieve(begun.response.id)).status == "cancelled"


async def test_input_items_are_listed_both_ways(service: Service) -> None:
    said: list[Any] = [{"role": "user", "content": f"say {at}"} for at in range(5)]
    async with async_client(service) as client:
        answer = await ask(client, [*said, {"role": "user", "content": script("ok")}])
        for order, wanted in (("asc", [*range(5)]), ("desc", [*reversed(range(5))])):
            page: Any = client.responses.input_items.list(answer.id, limit=2, order=order)  # type: ignore[arg-type]
            texts = [item.content[0].text async for item in page]
            assert [text for text in texts if text != script("ok")] == [f"say {at}" for at in wanted]
            assert len(texts) == 6
        newest = (await service.ours.get(f"{RESPONSES}/{answer.id}/input_items")).json()
        assert newest["data"][0]["content"] == [{"type": "input_text", "text": script("ok")}]
        assert (newest["has_more"], newest["first_id"]) == (False, newest["data"][0]["id"])


async def test_an_item_can_be_referred_to(sqlite_service: Service, prompts: list[list[int]]) -> None:
    async with async_client(sqlite_service) as client:
        first = await ask(client, script("one"))
        answer = await ask(client, [{"id": first.output[0].id}, {"role": "user", "content": script("two")}])
        plain = [{"role": "assistant", "content": "one"}, {"role": "user", "content": script("two")}]
        await ask(client, plain)
        assert prompts[-1] == prompts[-2]
        items = [item async for item in client.responses.input_items.list(answer.id, order="asc")]
        assert items[0].id != first.output[0].id
        with pytest.raises(NotFoundError) as refused:
            await ask(client, [{"type": "item_reference", "id": "msg_" + "0" * 32}])
        assert (refused.value.code, refused.value.param) == ("item_not_found", "input.0")


async def test_input_tokens_are_those_of_the_prompt(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        first = await ask(client, script("one"), instructions="Be brief.")
        fields: Any = {"input": script("two"), "previous_response_id": first.id, "tools": [WEATHER]}
        counted = await client.responses.input_tokens.count(model=MODEL, **fields)
        answer = await client.responses.create(model=MODEL, **fields)
        assert (counted.object, counted.input_tokens) == ("response.input_tokens", answer.usage.input_tokens)
        # It says how many even where they are too many.
        assert (await client.responses.input_tokens.count(input="a" * 9000)).input_tokens > 9000


async def test_the_oldest_is_left_out_only_if_that_is_wanted(sqlite_service: Service, prompts: list[list[int]]) -> None:
    async with async_client(sqlite_service) as client:
        first = await ask(client, script("one") + " " * 4000, instructions="Be brief.")
        fields: Any = {"previous_response_id": first.id, "max_output_tokens": 10, "instructions": "Be brief."}
        long = script("two") + " " * 4200
        with pytest.raises(BadRequestError) as refused:
            await ask(client, long, **fields)
        assert refused.value.code == "context_length_exceeded"
        answer = await ask(client, long, truncation="auto", **fields)
    assert (answer.output_text, answer.truncation) == ("two", "auto")
    last = bytes(token for token in prompts[-1] if token < 256).decode()
    assert last.startswith('Be brief.{"say": "two"}')


async def test_a_tenant_that_keeps_only_numbers_stores_no_responses(service: Service) -> None:
    await TenantService(service.database).change(TESTER, service.our_id, keeps_content=False)
    async with async_client(service) as client:
        answer = await ask(client, script(SECRET), instructions=SECRET, metadata={"a": SECRET})
        assert (answer.output_text, answer.store) == (SECRET, False)
        assert await columns_holding(service.database, SECRET) == set()
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(answer.id)
        with pytest.raises(BadRequestError) as refused:
            await ask(client, script(SECRET), store=True)
        assert refused.value.param == "store"


async def test_a_response_is_only_what_was_asked_for_as_one(sqlite_service: Service) -> None:
    made = (await sqlite_service.ours.post(NEW_MESSAGE, json={"prompt": script("one")})).json()
    async with async_client(sqlite_service) as client:
        messages: Any = [{"role": "user", "content": script("one")}]
        completion = await client.chat.completions.create(model=MODEL, messages=messages, store=True)
        for identifier in (made["message_id"], completion.id.removeprefix("chatcmpl-")):
            with pytest.raises(NotFoundError) as refused:
                await client.responses.retrieve(f"resp_{identifier}")
            assert refused.value.code == "response_not_found"
            with pytest.raises(BadRequestError):
                await ask(client, script("two"), previous_response_id=f"resp_{identifier}")
