"""Completions of `store: true`, as the official Python client lists, shows, labels and erases them."""

from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from database.identifier import new_id
from services.tenant_service import TenantService
from tests.openai_clients import CHAT, MODEL, WEATHER, asking, async_client, said
from tests.rows import TESTER
from tests.service import Service, script
from tests.whole_database import columns_holding, row_counts

CALL = 'get_weather\n{"city": "北京"}'
SECRET = "a word that must not be kept"


async def ask(client: AsyncOpenAI, say: str = "hello", **fields: Any) -> Any:
    return await client.chat.completions.create(**{"model": MODEL, "messages": said(say), "store": True, **fields})


async def listed(client: AsyncOpenAI, **fields: Any) -> list[str]:
    return [one.id async for one in client.chat.completions.list(**fields)]


async def test_a_stored_completion_is_there_as_it_was_answered(service: Service) -> None:
    async with async_client(service) as client:
        answered = [
            await ask(client, "你好 👩‍🚀", metadata={"run": "7"}),
            await ask(client, "cut here", max_tokens=3),
            await ask(client, "twice", n=2, stop="ic"),
            await ask(client, CALL, tools=[WEATHER]),
            await ask(client, ""),
        ]
        for answer in answered:
            kept = await client.chat.completions.retrieve(answer.id)
            assert kept == answer
        assert [one.metadata for one in answered] == [{"run": "7"}, *[{}] * 4]
        assert await listed(client) == [one.id for one in answered]


async def test_a_streamed_completion_is_stored_like_a_whole_one(service: Service) -> None:
    async with async_client(service) as client:
        async with await ask(client, "one two", stream=True) as chunks:
            streamed = [chunk async for chunk in chunks]
        kept = await client.chat.completions.retrieve(streamed[0].id)
    assert kept.choices[0].message.content == "one two"


async def test_its_messages_are_those_that_were_sent(service: Service) -> None:
    function = {"name": "get_weather", "arguments": "{}"}
    calls = [{"id": f"call_{at}", "type": "function", "function": function} for at in range(2)]
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun", "name": "get_weather"},
        {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
        {"role": "assistant", "content": "let me see", "tool_calls": calls[:1]},
        {"role": "tool", "tool_call_id": "call_0", "content": script("done")},
    ]
    async with async_client(service) as client:
        answer = await ask(client, messages=messages)
        pages = client.chat.completions.messages.list(answer.id, limit=2)
        found = [one async for one in pages]
        newest_first = [one.id async for one in client.chat.completions.messages.list(answer.id, order="desc")]
    for at, (sent, kept) in enumerate(zip(messages, found, strict=True)):
        shown = kept.model_dump(exclude_unset=True)
        assert shown.pop("id") == f"{answer.id}-{at}"
        assert shown.pop("content_parts") == (parts if sent["content"] == parts else None)
        assert shown == sent | ({"content": "Hello"} if sent["content"] == parts else {})
    assert newest_first == [one.id for one in reversed(found)]
    wrong = await service.ours.get(f"{CHAT}/{answer.id}/messages", params={"after": f"{answer.id}-7"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


async def test_they_are_listed_page_by_page_in_both_orders(service: Service) -> None:
    async with async_client(service) as client:
        ids = [(await ask(client)).id for _ in range(5)]
        await ask(client, store=False)
        await ask(client, store=None)
        assert await listed(client, limit=2) == ids
        assert await listed(client, limit=2, order="desc") == ids[::-1]
        page = await client.chat.completions.list(limit=2, after=ids[1])
    assert [one.id for one in page.data] == ids[2:4]
    assert page.has_more
    body = (await service.ours.get(CHAT, params={"limit": 2})).json()
    assert (body["object"], body["first_id"], body["last_id"], body["has_more"]) == ("list", ids[0], ids[1], True)
    assert (await service.theirs.get(CHAT)).json()["data"] == []


async def test_they_are_found_by_model_and_by_all_labels_that_are_given(service: Service) -> None:
    odd = {"a.b": "1", 'say "hi"': "ü", "empty": ""}
    async with async_client(service) as client:
        both = (await ask(client, metadata={"run": "7", "by": "ann"})).id
        one = (await ask(client, metadata={"run": "7"})).id
        strange = (await ask(client, metadata=odd)).id
        assert await listed(client, metadata={"run": "7"}) == [both, one]
        assert await listed(client, metadata={"run": "7", "by": "ann"}) == [both]
        for key, value in odd.items():
            assert await listed(client, metadata={key: value}) == [strange]
        for none in ({"run": "8"}, {"a": "1"}, {"7": "run"}, {"run": "%"}):
            assert await listed(client, metadata=none) == []
        assert await listed(client, model=MODEL, limit=1) == [both, one, strange]
        assert await listed(client, model="another") == []


async def test_labels_are_replaced_as_a_whole(service: Service) -> None:
    async with async_client(service) as client:
        answer = await ask(client, metadata={"run": "7", "by": "ann"})
        changed = await client.chat.completions.update(answer.id, metadata={"run": "8"})
        answer.metadata = {"run": "8"}
        assert changed == answer
        assert await listed(client, metadata={"by": "ann"}) == []
        cleared = await client.chat.completions.update(answer.id, metadata=None)
        assert cleared.metadata == {}
        too_many = {str(number): "" for number in range(17)}
        for wrong in (too_many, {"a" * 65: ""}, {"a": "b" * 513}):
            with pytest.raises(BadRequestError):
                await client.chat.completions.update(answer.id, metadata=wrong)


async def test_an_erased_completion_leaves_nothing_that_was_said_and_stays_counted(service: Service) -> None:
    async with async_client(service) as client:
        answer = await ask(client, SECRET, metadata={"about": SECRET}, n=2)
        assert await columns_holding(service.database, SECRET) == {
            *("turns.labels", "turn_texts.prompt", "turn_texts.response", "items.text")
        }
        usage = (await service.ours.get("/v1/usage")).json()
        erased = await client.chat.completions.delete(answer.id)
        assert (erased.id, erased.deleted, erased.object) == (answer.id, True, "chat.completion.deleted")
        for gone in (client.chat.completions.retrieve, client.chat.completions.delete):
            with pytest.raises(NotFoundError):
                await gone(answer.id)
    assert await columns_holding(service.database, SECRET) == set()
    assert (await row_counts(service.database))["items"] == 0
    assert (await service.ours.get("/v1/usage")).json() == usage


async def test_erasing_its_user_or_its_message_erases_it(service: Service) -> None:
    async with async_client(service) as client:
        answer = await ask(client, user="ann")
        rows = (await service.ours.delete("/chat/users", params={"user": "ann"})).json()["rows"]
        assert rows == {"turns": 1, "turn_texts": 1, "items": 2}
        other = await ask(client)
        message_id = other.id.removeprefix("chatcmpl-")
        assert (await service.ours.delete(f"/chat/messages/{message_id}")).status_code == 200
        assert await listed(client) == []
    assert (await service.ours.get(f"{CHAT}/{answer.id}")).json()["error"]["code"] == "completion_not_found"


async def test_only_what_ended_well_and_was_to_be_stored_is_there(service: Service) -> None:
    failed = await service.ours.post(CHAT, json=asking(script("no", fail_after=1), store=True))
    assert failed.status_code == 503
    unstored = (await service.ours.post(CHAT, json=asking(script("no")))).json()
    assert (await service.ours.get(CHAT)).json()["data"] == []
    assert (await service.ours.get(f"{CHAT}/{unstored['id']}")).status_code == 404


async def test_a_tenant_of_which_only_numbers_are_kept_cannot_store(service: Service) -> None:
    await TenantService(service.database).change(TESTER, service.our_id, keeps_content=False)
    refused = await service.ours.post(CHAT, json=asking(script(SECRET), store=True))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "store")
    refused = await service.ours.post(f"{CHAT}/{new_id()}", json={"metadata": {"about": SECRET}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "metadata")
    assert await columns_holding(service.database, SECRET) == set()


async def test_another_tenants_completion_answers_as_one_that_is_not_there(service: Service) -> None:
    theirs = (await service.theirs.post(CHAT, json=asking(script("hi"), store=True))).json()["id"]
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", ""), ("GET", "/messages")):
        body = {"metadata": {"a": "b"}} if method == "POST" else None
        foreign, random = [
            await service.ours.request(method, f"{CHAT}/{one}{path}", json=body)
            for one in (theirs, f"chatcmpl-{new_id()}")
        ]
        assert (foreign.status_code, foreign.content) == (404, random.content)
    kept = (await service.theirs.get(f"{CHAT}/{theirs}")).json()
    assert (kept["choices"][0]["message"]["content"], kept["metadata"]) == ("hi", {})


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "chatcmpl-1"}, "after"),
        ({"metadata": "run"}, "metadata"),
        ({"metadata[a]": "b" * 513}, "metadata.a"),
        ({"metadata": "run", "offset": "1"}, "metadata"),
        ({"offset": "1"}, "offset"),
    ],
)
async def test_a_bad_query_is_named(sqlite_service: Service, query: dict[str, str], param: str) -> None:
    refused = await sqlite_service.ours.get(CHAT, params=query)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
