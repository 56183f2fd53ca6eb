"""Requests that are sent again under an idempotency key: answered once, charged once."""

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from database.clock import now
from database.models import IdempotencyKey
from services.principal import Scope
from services.retention_service import RetentionService
from tests.claims import claim_elsewhere, die_elsewhere, until_waited_for
from tests.event_stream import events, text
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, running_service, script

_HI = [{"role": "user", "content": script("你好 👍🏽")}]
_TWO = {"n": 2, "logprobs": True, "top_logprobs": 1}
# One of each shape of answer, by route and body.
ANSWERS: list[tuple[str, dict[str, Any]]] = [
    (NEW_MESSAGE, {"prompt": script("你好 👍🏽")}),
    (NEW_MESSAGE, {"prompt": script("你好 👍🏽"), "stream": True}),
    (NEW_MESSAGE, {"prompt": script("你好 👍🏽"), "background": True}),
    ("/v1/chat/completions", {"model": "scripted", "messages": _HI, **_TWO}),
    ("/v1/chat/completions", {"model": "scripted", "messages": _HI, **_TWO, "stream": True}),
    ("/v1/completions", {"model": "scripted", "prompt": ["one", "two"], "echo": True, "max_tokens": 3}),
    ("/v1/completions", {"model": "scripted", "prompt": ["one", "two"], "stream": True}),
    ("/v1/responses", {"model": "scripted", "input": script("你好 👍🏽")}),
    ("/v1/responses", {"model": "scripted", "input": script("你好 👍🏽"), "stream": True}),
    ("/v1/responses", {"model": "scripted", "input": script("你好 👍🏽"), "background": True}),
]


async def ask(
    service: Service, body: dict[str, Any], path: str = NEW_MESSAGE, *, key: str = "a-key", **headers: str
) -> httpx2.Response:
    return await service.ours.post(path, json=body, headers={"Idempotency-Key": key, **headers})


async def asked(service: Service) -> int:
    """How many turns there were."""
    return len((await service.ours.get("/chat/get/messages/")).json()["messages"])


def told(answer: httpx2.Response) -> str:
    """What every caller is told: the token of a stream is each one's own."""
    return re.sub(r"\?token=[\w-]+", "", answer.text)


async def rows(service: Service) -> list[IdempotencyKey]:
    async with service.database.begin(service.our_id) as session:
        return list(await session.scalars(select(IdempotencyKey)))


@pytest.mark.parametrize(("path", "body"), ANSWERS, ids=lambda value: str(value)[:40])
async def test_a_request_that_is_sent_again_gets_the_same_answer(
    sqlite_service: Service, path: str, body: dict[str, Any]
) -> None:
    first = await ask(sqlite_service, body, path)
    assert first.status_code == (202 if "background" in body and path == NEW_MESSAGE else 200), first.text
    turns = await asked(sqlite_service)
    # The order of a JSON object's fields says nothing.
    again = await ask(sqlite_service, dict(reversed(body.items())), path)
    assert (again.status_code, told(again)) == (first.status_code, told(first))
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert await asked(sqlite_service) == turns
    # Under another key, and without one, it is another request.
    assert (await ask(sqlite_service, body, path, key="another")).content != first.content


async def test_those_who_ask_at_once_share_one_answer(service: Service) -> None:
    body = {"prompt": script("word " * 20, rate=500)}
    streamed = [await_all(service, body | {"stream": stream}, f"key-{stream}") for stream in (False, True)]
    for answers in await asyncio.gather(*streamed):
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
    assert await asked(service) == 2
    (usage,) = (await service.ours.get("/v1/usage", params={"group_by": "model"})).json()["data"]
    assert usage["requests"] == 2


async def await_all(service: Service, body: dict[str, Any], key: str) -> list[httpx2.Response]:
    return await asyncio.gather(*(ask(service, body, key=key) for _ in range(20)))


async def test_another_body_or_route_under_the_same_key_is_refused(sqlite_service: Service) -> None:
    first = await ask(sqlite_service, {"prompt": "hi"})
    assert first.status_code == 200
    for body, path in (({"prompt": "ho"}, NEW_MESSAGE), ({"prompt": "hi", "stream": True}, NEW_MESSAGE)):
        refused = await ask(sqlite_service, body, path)
        assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
        assert refused.json()["error"]["code"] == "idempotency_key_reused"
    assert (await ask(sqlite_service, {"prompt": "hi"}, NEW_MESSAGE.rstrip("/"))).content == first.content
    # While one runs, too.
    slow = asyncio.create_task(ask(sqlite_service, {"prompt": script("at last", pause=3600)}, key="slow"))
    while len(await rows(sqlite_service)) < 2:
        pass
    assert (await ask(sqlite_service, {"prompt": "hi"}, key="slow")).status_code == 409
    sqlite_service.hurry()
    assert (await slow).status_code == 200


async def test_another_tenants_key_is_another_key(sqlite_service: Service) -> None:
    ours = await ask(sqlite_service, {"prompt": "hi"})
    theirs = await sqlite_service.theirs.post(NEW_MESSAGE, json={"prompt": "ho"}, headers={"Idempotency-Key": "a-key"})
    assert (ours.json()["response"], theirs.json()["response"]) == ("You said: hi", "You said: ho")


@pytest.mark.parametrize(("path", "body"), ANSWERS, ids=lambda value: str(value)[:40])
async def test_a_key_gets_no_answer_of_a_model_that_it_may_not_use(
    sqlite_service: Service, path: str, body: dict[str, Any]
) -> None:
    first = await ask(sqlite_service, body, path)
    for models, status in ((["other"], 404), (["other", "scripted"], first.status_code)):
        made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id, models=models)
        again = await ask(sqlite_service, body, path, Authorization=f"Bearer {made.secret}")
        assert again.status_code == status
        if status == 404:
            assert again.json()["error"]["code"] == "model_not_found"
        else:
            assert told(again) == told(first)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
async def test_nor_does_it_where_the_body_begins_with_a_mark(sqlite_service: Service, encoding: str) -> None:
    content = json.dumps({"model": "scripted", "messages": _HI}).encode(encoding)
    made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id, models=["other"])
    headers = {"Idempotency-Key": "a-key", "Content-Type": "application/json"}
    first = await sqlite_service.ours.post("/v1/chat/completions", content=content, headers=headers)
    assert first.status_code == 200
    headers["Authorization"] = f"Bearer {made.secret}"
    again = await sqlite_service.ours.post("/v1/chat/completions", content=content, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_key_that_may_not_chat_gets_no_recorded_answer(sqlite_service: Service) -> None:
    await ask(sqlite_service, {"prompt": "hi"})
    made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id, scopes={Scope.HISTORY_READ})
    refused = await ask(sqlite_service, {"prompt": "hi"}, Authorization=f"Bearer {made.secret}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_an_answer_outlives_the_rotation_of_its_key(sqlite_service: Service) -> None:
    made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id)
    first = await ask(sqlite_service, {"prompt": "hi"}, Authorization=f"Bearer {made.secret}")
    after = await sqlite_service.keys.rotate(TESTER, sqlite_service.our_id, made.row.id, overlap=timedelta(0))
    again = await ask(sqlite_service, {"prompt": "hi"}, Authorization=f"Bearer {after.secret}")
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")


async def test_what_was_refused_or_failed_can_be_asked_again(sqlite_service: Service) -> None:
    assert (await ask(sqlite_service, {"prompt": "hi", "nonsense": 1})).status_code == 400
    assert (await ask(sqlite_service, {"prompt": "hi"}, Authorization="Bearer nonsense")).status_code == 401
    failing = script("word " * 10, fail_after=3)
    for stream in (False, True):
        answers = [
            await ask(sqlite_service, {"prompt": failing, "stream": stream}, key=f"fails-{stream}") for _ in range(2)
        ]
        assert answers[0].status_code == (200 if stream else 503), answers[0].text
        assert "idempotent-replayed" not in answers[1].headers
    assert await asked(sqlite_service) == 4
    assert await rows(sqlite_service) == []
    assert (await ask(sqlite_service, {"prompt": "hi"})).status_code == 200


async def test_a_caller_that_lost_the_connection_comes_back_to_its_answer(sqlite_service: Service) -> None:
    body = {"prompt": script("word " * 40, rate=200), "stream": True}
    async with sqlite_service.ours.stream(
        "POST", NEW_MESSAGE, json=body, headers={"Idempotency-Key": "a-key"}
    ) as response:
        await anext(response.aiter_lines())
    answer = await ask(sqlite_service, body)
    assert text(events(answer.text)) == "word " * 40
    assert await asked(sqlite_service) == 1


async def test_an_answer_that_nobody_waits_for_is_given_up(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path, unheard_seconds=1) as service:
        body = {"prompt": script("word ", repeat=200, rate=10), "stream": True}
        headers = {"Idempotency-Key": "a-key"}
        async with service.ours.stream("POST", NEW_MESSAGE, json=body, headers=headers) as response:
            await anext(response.aiter_lines())
        async with asyncio.timeout(60):
            while await rows(service):
                pass
            # The turn's end is stored beside.
            while (status := (await asked_last(service))["status"]) == "running":
                pass
        assert status == "cancelled"


async def asked_last(service: Service) -> dict[str, Any]:
    entry: dict[str, Any] = (await service.ours.get("/chat/get/messages/")).json()["messages"][0]
    return entry


async def test_what_is_not_kept_is_not_answered_twice(service: Service) -> None:
    body = {"prompt": "a secret", "store": False}
    assert (await ask(service, body)).json()["response"] == "You said: a secret"
    again = await ask(service, body)
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
    assert again.json()["error"]["code"] == "idempotency_answer_not_kept"
    assert [row.body for row in await rows(service)] == [None]


async def test_an_erased_message_is_erased_under_its_key_too(service: Service) -> None:
    first = (await ask(service, {"prompt": "hi"})).json()
    assert (await service.ours.delete(f"/chat/messages/{first['message_id']}")).status_code == 200
    assert await rows(service) == []
    assert (await ask(service, {"prompt": "hi"})).json()["message_id"] != first["message_id"]


async def test_what_an_instance_had_begun_before_it_died_it_begins_again_at_once(sqlite_service: Service) -> None:
    await ask(sqlite_service, {"prompt": "hi"})
    async with sqlite_service.database.begin(sqlite_service.our_id) as session:
        row = await session.get_one(IdempotencyKey, (sqlite_service.our_id, "a-key"))
        row.status, row.body, row.expires_at = None, None, now() + timedelta(minutes=1)
    assert (await ask(sqlite_service, {"prompt": "hi"})).json()["response"] == "You said: hi"
    assert await asked(sqlite_service) == 2


async def test_a_key_is_forgotten_after_a_day(service: Service) -> None:
    first = await ask(service, {"prompt": "hi"})
    await age(service, timedelta(hours=23, minutes=59))
    retention = RetentionService(service.database, batch=10, interval=60)
    assert not await retention.purge(TESTER)
    assert (await ask(service, {"prompt": "hi"})).content == first.content
    await age(service, timedelta(minutes=2))
    # Whether it has been purged yet or not.
    assert (await ask(service, {"prompt": "ho"})).json()["response"] == "You said: ho"
    await age(service, timedelta(hours=25))
    assert await retention.purge(TESTER) == {"idempotency_keys": 1}


async def age(service: Service, by: timedelta) -> None:
    async with service.database.begin(service.our_id) as session:
        for row in await session.scalars(select(IdempotencyKey)):
            row.created_at -= by


async def test_an_attempt_that_died_is_made_again_once_its_lease_is_over(service: Service) -> None:
    await ask(service, {"prompt": "hi"})
    await claim_elsewhere(service)
    waiting = asyncio.create_task(ask(service, {"prompt": "hi"}))
    await until_waited_for(service)
    assert not waiting.done()
    await die_elsewhere(service)
    assert (await waiting).json()["response"] == "You said: hi"
    assert await asked(service) == 2


@pytest.mark.parametrize("key", ["", "a" * 256, "with space", "é", "tab\there"])
async def test_a_key_that_is_none_is_refused(sqlite_service: Service, key: str) -> None:
    response = await sqlite_service.ours.post(
        NEW_MESSAGE, json={"prompt": "hi"}, headers={b"Idempotency-Key": key.encode()}
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "Idempotency-Key"
