"""The items of a conversation over `/v1`: said, listed, erased."""

from typing import Any

import pytest

from database.clock import now
from database.identifier import new_id
from database.models import Item
from tests.openai_clients import async_client
from tests.rows import a_conversation
from tests.service import NEW_MESSAGE, Service, script
from tests.test_controller.test_conversations import CONVERSATIONS, SECRET, made, said
from tests.whole_database import columns_holding, row_counts

CALL = {"type": "function_call", "call_id": "call_a", "name": "f", "arguments": '{"a": 1}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_a", "output": "42"}


async def test_a_thousand_items_are_read_page_by_page_from_both_ends(service: Service) -> None:
    conversation, at = a_conversation(length=1000), now()
    rows = [
        Item(
            id=new_id(at),
            conversation_id=conversation.id,
            position=position,
            type="message",
            role="user",
            text=str(position),
            created_at=at,
        )
        for position in range(1000)
    ]
    async with service.database.begin(service.our_id) as session:
        session.add(conversation)
        await session.flush()
        session.add_all(rows)
    wanted = [f"msg_{row.id}" for row in rows]
    async with async_client(service) as client:
        for order, ids in (("asc", wanted), ("desc", wanted[::-1])):
            pages = client.conversations.items.list(conversation.id, limit=100, order=order)  # type: ignore[arg-type]
            assert [one.id async for one in pages] == ids
        newest = await client.conversations.items.list(conversation.id)
    assert [one.id for one in newest.data] == wanted[:-21:-1]
    assert newest.has_more


async def test_items_are_shown_as_they_were_said(service: Service) -> None:
    name = await made(service)
    parts = [{"type": "input_text", "text": "Hel"}, {"type": "input_text", "text": "lo"}]
    answer = [{"type": "output_text", "text": "yes", "annotations": [], "logprobs": []}]
    new: list[dict[str, Any]] = [
        {"type": "message", "role": "user", "content": parts},
        {"role": "assistant", "content": answer, "id": f"msg_{new_id()}", "status": "completed"},
        CALL,
        OUTPUT,
    ]
    body = (await service.ours.post(f"{CONVERSATIONS}/{name}/items", json={"items": new})).json()
    shown = body["data"]
    assert (body["object"], body["first_id"], body["last_id"], body["has_more"]) == (
        *("list", shown[0]["id"], shown[-1]["id"]),
        False,
    )
    assert [one["id"].partition("_")[0] for one in shown] == ["msg", "msg", "fc", "fco"]
    assert shown[1]["id"] != new[1]["id"]
    assert shown[1]["content"] == answer
    assert shown[0]["content"] == parts
    assert shown[2] == {"status": "completed", "id": shown[2]["id"], **CALL}
    assert shown[3] == {"status": "completed", "id": shown[3]["id"], **OUTPUT}
    for one in shown:
        assert (await service.ours.get(f"{CONVERSATIONS}/{name}/items/{one['id']}")).json() == one


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([], "items"),
        ([said("hi")] * 21, "items"),
        ([OUTPUT], "items"),
        ([CALL, said("hi")], "items"),
        ([CALL, OUTPUT, OUTPUT], "items"),
        ([CALL, CALL], "items"),
        ([{"type": "item_reference", "id": f"msg_{new_id()}"}], "items.0"),
        ([{"type": "web_search_call", "id": "ws_1", "status": "completed"}], "items.0"),
        ([{"role": "tool", "content": "hi"}], "items.0.message.role"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "items.0.message.content"),
        ([CALL | {"arguments": "[]"}], "items.0.function_call.arguments"),
    ],
)
async def test_what_cannot_be_said_is_named_and_adds_nothing(
    sqlite_service: Service, items: list[dict[str, Any]], param: str
) -> None:
    name = await made(sqlite_service)
    url = f"{CONVERSATIONS}/{name}/items"
    refused = await sqlite_service.ours.post(url, json={"items": items})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text
    assert (await sqlite_service.ours.get(url)).json()["data"] == []


async def test_a_call_may_wait_for_an_output_that_comes_later(service: Service) -> None:
    name = await made(service, items=[said("hi"), CALL])
    url = f"{CONVERSATIONS}/{name}/items"
    for wrong in ([said("and?")], [OUTPUT | {"call_id": "call_b"}]):
        assert (await service.ours.post(url, json={"items": wrong})).status_code == 400
    assert (await service.ours.post(url, json={"items": [OUTPUT, said("and?")]})).status_code == 200
    items = (await service.ours.get(url, params={"order": "asc"})).json()["data"]
    assert [one["type"] for one in items] == ["message", "function_call", "function_call_output", "message"]


async def test_an_erased_item_is_gone_from_the_conversation_the_prompt_and_the_log(service: Service) -> None:
    keyed = {"Idempotency-Key": "one"}
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": script(SECRET)}, headers=keyed)).json()
    name = f"conv_{first['conversation_id']}"
    body = {"prompt": script("next"), "conversation_id": first["conversation_id"]}
    second = await service.ours.post(NEW_MESSAGE, json=body, headers={"Idempotency-Key": "two"})
    assert SECRET in second.text
    async with async_client(service) as client:
        items = [one async for one in client.conversations.items.list(name, order="asc")]
        for item in items[:2]:
            left = await client.conversations.items.delete(str(item.id), conversation_id=name)
            assert (left.id, left.object) == (name, "conversation")
    assert await columns_holding(service.database, SECRET) == set()
    # Answers are recorded under their keys; those of later turns repeat what was said before.
    assert (await row_counts(service.database))["idempotency_keys"] == 0
    answer = (await service.ours.post(NEW_MESSAGE, json=body)).json()
    assert [one["content"] for one in answer["history"]] == [body["prompt"], "next"] * 2


async def test_the_log_keeps_what_is_left_of_a_turn(service: Service) -> None:
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("kept")})).json()
    url = f"{CONVERSATIONS}/{first['conversation_id']}/items"
    (question, _) = (await service.ours.get(url, params={"order": "asc"})).json()["data"]
    assert (await service.ours.delete(f"{url}/{question['id']}")).status_code == 200
    (entry,) = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert (entry["prompt"], entry["response"]) == ("", "kept")


async def test_what_may_be_included_is_what_no_item_has(sqlite_service: Service) -> None:
    name = await made(sqlite_service, items=[said("hi")])
    async with async_client(sqlite_service) as client:
        found = await client.conversations.items.list(name, include=["web_search_call.action.sources"])
    assert len(found.data) == 1
    refused = await sqlite_service.ours.get(
        f"{CONVERSATIONS}/{name}/items", params={"include[]": "message.output_text.logprobs"}
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "include[].0")
