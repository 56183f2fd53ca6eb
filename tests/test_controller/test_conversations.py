"""`/v1/conversations`, with the official Python client where it knows the route; and what it lacks, the list."""

from typing import Any

import pytest
from openai import BadRequestError, ConflictError, NotFoundError

from database.identifier import new_id
from services.tenant_service import TenantService
from tests.openai_clients import MODEL, async_client
from tests.rows import TESTER, a_conversation
from tests.service import NEW_MESSAGE, Service, script
from tests.whole_database import columns_holding, row_counts

CONVERSATIONS = "/v1/conversations"
SECRET = "a word that must not be kept"


async def made(service: Service, **body: Any) -> str:
    """A new conversation's id."""
    response = await service.ours.post(CONVERSATIONS, json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def listed(service: Service, **query: str) -> list[str]:
    response = await service.ours.get(CONVERSATIONS, params=query)
    assert response.status_code == 200, response.text
    return [one["id"] for one in response.json()["data"]]


def said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def test_a_conversation_is_made_shown_labelled_and_erased(service: Service) -> None:
    async with async_client(service) as client:
        new = await client.conversations.create(items=[{"role": "user", "content": SECRET}], metadata={"run": "7"})
        assert new.id.startswith("conv_")
        assert (new.object, new.metadata) == ("conversation", {"run": "7"})
        assert await client.conversations.retrieve(new.id) == new
        changed = await client.conversations.update(new.id, metadata={"by": "ann"})
        assert (changed.id, changed.created_at, changed.metadata) == (new.id, new.created_at, {"by": "ann"})
        erased = await client.conversations.delete(new.id)
        assert (erased.id, erased.object, erased.deleted) == (new.id, "conversation.deleted", True)
        for gone in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
            with pytest.raises(NotFoundError):
                await gone(new.id)
    assert await columns_holding(service.database, SECRET) == set()
    assert {"conversations", "items"}.isdisjoint(await row_counts(service.database))


async def test_a_conversation_of_chat_is_the_same_one(service: Service) -> None:
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("one"), "user": "ann"})).json()
    async with async_client(service) as client:
        for name in (first["conversation_id"], f"conv_{first['conversation_id']}"):
            assert (await client.conversations.retrieve(name)).id == f"conv_{first['conversation_id']}"
        name = f"conv_{first['conversation_id']}"
        items = await client.conversations.items.create(
            name,
            items=[
                {"type": "function_call", "call_id": "call_a", "name": "get_weather", "arguments": '{"city": "Rome"}'},
                {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
                {"role": "developer", "content": "Be brief."},
            ],
        )
        assert [one.type for one in items.data] == ["function_call", "function_call_output", "message"]
        body = {"prompt": script("two"), "conversation_id": first["conversation_id"]}
        answer = (await service.ours.post(NEW_MESSAGE, json=body)).json()
        assert [one["role"] for one in answer["history"]] == [
            *("user", "assistant", "tool", "system", "user", "assistant"),
        ]
        assert answer["history"][1]["content"] == 'one\nget_weather({"city": "Rome"})'
        found = [one async for one in client.conversations.items.list(name, order="asc")]
    kinds = [(one.type, getattr(one, "role", None)) for one in found]
    assert kinds == [
        ("message", "user"),
        ("message", "assistant"),
        ("function_call", None),
        ("function_call_output", None),
        ("message", "developer"),
        ("message", "user"),
        ("message", "assistant"),
    ]
    assert found[-1].model_dump(include={"status", "content"}) == {
        "status": "completed",
        "content": [{"type": "output_text", "text": "two", "annotations": [], "logprobs": []}],
    }
    assert await listed(service, user="ann") == [name]
    assert await listed(service, q="SUNNY") == [name]
    assert (await service.ours.delete(f"/chat/conversations/{first['conversation_id']}")).status_code == 200
    assert await listed(service) == []


async def test_what_was_said_on_v1_is_where_chat_goes_on(service: Service) -> None:
    name = await made(service, items=[said("before")])
    body = {"prompt": script("after"), "conversation_id": name.removeprefix("conv_")}
    answer = (await service.ours.post(NEW_MESSAGE, json=body)).json()
    assert [one["content"] for one in answer["history"]] == ["before", body["prompt"], "after"]
    refused = await service.ours.post(NEW_MESSAGE, json=body | {"conversation_id": name})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "conversation_id")


async def test_a_response_answers_in_a_conversation_that_was_made_here(service: Service) -> None:
    async with async_client(service) as client:
        name = (await client.conversations.create(items=[{"role": "developer", "content": "Be brief."}])).id
        answer = await client.responses.create(model=MODEL, input=script("yes"), conversation=name)
        items = (await client.conversations.items.list(name, order="asc")).data
        assert [getattr(one, "role", None) for one in items] == ["developer", "user", "assistant"]
        assert items[-1].id == answer.output[0].id
        await client.conversations.delete(name)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(answer.id)


async def test_conversations_are_listed_page_by_page_in_both_orders(service: Service) -> None:
    ids = [await made(service, items=[said(str(number))]) for number in range(5)]
    for order, wanted in (("asc", ids), ("desc", ids[::-1]), ("", ids[::-1])):
        found: list[str] = []
        while True:
            query: dict[str, Any] = {"limit": 2} | ({"order": order} if order else {})
            query |= {"after": found[-1]} if found else {}
            page = (await service.ours.get(CONVERSATIONS, params=query)).json()
            ends = (page["data"][0]["id"], page["data"][-1]["id"])
            assert (page["object"], page["first_id"], page["last_id"]) == ("list", *ends)
            found += [one["id"] for one in page["data"]]
            if not page["has_more"]:
                break
        assert found == wanted
    empty = (await service.theirs.get(CONVERSATIONS)).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_conversations_are_found_by_labels_user_time_and_text(service: Service) -> None:
    ann = await made(service, user="ann", metadata={"run": "7"}, items=[said("Grüße aus Rom")])
    bob = await made(service, user="bob", metadata={"run": "7", "by": "bob"}, items=[said("100 % sure")])
    assert await listed(service, **{"metadata[run]": "7"}) == [bob, ann]
    assert await listed(service, **{"metadata[run]": "7", "metadata[by]": "bob"}) == [bob]
    assert await listed(service, user="ann") == [ann]
    assert await listed(service, q="aus rom") == [ann]
    assert await listed(service, q="0 % S") == [bob]
    for none in ({"q": "nobody said so"}, {"user": "carl"}, {"metadata[run]": "8"}, {"q": "rom", "user": "bob"}):
        assert await listed(service, **none) == []
    assert await listed(service, since="2020-01-01T00:00:00Z", order="asc") == [ann, bob]
    assert await listed(service, until="2020-01-01T00:00:00Z") == []
    assert (await service.theirs.get(CONVERSATIONS, params={"q": "rom"})).json()["data"] == []


async def test_erasing_an_end_user_erases_the_conversations_made_for_them(service: Service) -> None:
    await made(service, user="ann", items=[said(SECRET)])
    rows = (await service.ours.delete("/chat/users", params={"user": "ann"})).json()["rows"]
    assert rows == {"conversations": 1, "items": 1}
    assert await columns_holding(service.database, SECRET) == set()


async def test_while_a_turn_runs_nothing_is_added_or_erased_and_clients_may_try_again(service: Service) -> None:
    name = await made(service, items=[said("first")])
    body = {"prompt": script("slow", pause=3600), "stream": True, "conversation_id": name.removeprefix("conv_")}
    async with async_client(service) as client, service.ours.stream("POST", NEW_MESSAGE, json=body):
        (item,) = (await client.conversations.items.list(name)).data
        for refused in (
            client.conversations.items.create(name, items=[{"role": "user", "content": "more"}]),
            client.conversations.items.delete(str(item.id), conversation_id=name),
            client.conversations.delete(name),
        ):
            with pytest.raises(ConflictError) as caught:
                await refused
            assert caught.value.code == "conversation_locked"
            assert caught.value.response.headers["retry-after"] == "1"


async def test_a_tenant_of_which_only_numbers_are_kept_has_no_conversations(service: Service) -> None:
    conversation = a_conversation()
    async with service.database.begin(service.our_id) as session:
        session.add(conversation)
    await TenantService(service.database).change(TESTER, service.our_id, keeps_content=False)
    for path, body in (
        ("", {"items": [said(SECRET)]}),
        ("", {"metadata": {"a": SECRET}}),
        (f"/{conversation.id}", {"metadata": {"a": SECRET}}),
        (f"/{conversation.id}/items", {"items": [said(SECRET)]}),
    ):
        refused = await service.ours.post(f"{CONVERSATIONS}{path}", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert await columns_holding(service.database, SECRET) == set()


async def test_another_tenants_conversation_answers_as_one_that_is_not_there(service: Service) -> None:
    theirs = (await service.theirs.post(CONVERSATIONS, json={"items": [said("theirs")]})).json()["id"]
    (item,) = (await service.theirs.get(f"{CONVERSATIONS}/{theirs}/items")).json()["data"]
    mine = await made(service)
    for method, path, body in (
        ("GET", "/{}", None),
        ("POST", "/{}", {"metadata": {"a": "b"}}),
        ("DELETE", "/{}", None),
        ("GET", "/{}/items", None),
        ("POST", "/{}/items", {"items": [said("hi")]}),
        ("GET", "/{}/items/" + item["id"], None),
        ("DELETE", "/{}/items/" + item["id"], None),
    ):
        foreign, random = [
            await service.ours.request(method, f"{CONVERSATIONS}{path.format(one)}", json=body)
            for one in (theirs, f"conv_{new_id()}")
        ]
        assert (foreign.status_code, foreign.content) == (404, random.content), (method, path)
    for method in ("GET", "DELETE"):
        foreign, random = [
            await service.ours.request(method, f"{CONVERSATIONS}/{mine}/items/{one}")
            for one in (item["id"], f"msg_{new_id()}")
        ]
        assert (foreign.status_code, foreign.content) == (404, random.content)
    foreign, random = [
        await service.ours.get(f"{CONVERSATIONS}/{mine}/items", params={"after": one})
        for one in (item["id"], f"msg_{new_id()}")
    ]
    assert (foreign.status_code, foreign.content) == (400, random.content)
    kept = (await service.theirs.get(f"{CONVERSATIONS}/{theirs}/items")).json()
    assert kept["data"] == [item]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [said("hi")] * 21}, "items"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"a" * 65: ""}}, "metadata." + "a" * 65 + ".[key]"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"user": ""}, "user"),
        ({"id": "conv_1"}, "id"),
    ],
)
async def test_what_a_conversation_cannot_begin_with_is_named(
    sqlite_service: Service, body: dict[str, Any], param: str
) -> None:
    refused = await sqlite_service.ours.post(CONVERSATIONS, json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_the_client_hears_of_bad_input_as_such(sqlite_service: Service) -> None:
    async with async_client(sqlite_service) as client:
        with pytest.raises(BadRequestError):
            await client.conversations.create(metadata={"a": "b" * 513})
        with pytest.raises(BadRequestError):
            await client.conversations.retrieve("conv_1")
    for query in ({"limit": "101"}, {"order": "up"}, {"after": "x"}, {"since": "soon"}, {"q": ""}, {"offset": "1"}):
        refused = await sqlite_service.ours.get(CONVERSATIONS, params=query)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(query)))
