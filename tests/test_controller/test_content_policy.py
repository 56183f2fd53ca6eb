"""What is kept of what is said: by the tenant's policy, and by the request's `store`."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select

from database.models import IdempotencyKey
from services.tenant_service import TenantService
from tests.claims import KEY, claim_elsewhere, die_elsewhere, until_waited_for
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, script, stream
from tests.whole_database import columns_holding

HISTORY = "/chat/get/messages/"
SECRET = "a word that must not be kept"
_KEYED = {"Idempotency-Key": KEY, "Content-Type": "application/json"}


async def entry(service: Service) -> dict[str, Any]:
    (found,) = (await service.ours.get(HISTORY)).json()["messages"]
    message: dict[str, Any] = found
    return message


async def test_a_turn_that_is_not_stored_is_answered_whole_and_leaves_only_its_numbers(service: Service) -> None:
    history = [{"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}]
    body = {"prompt": script(SECRET), "history": history, "store": False, "user": "ann"}
    answer = (await service.ours.post(NEW_MESSAGE, json=body)).json()
    assert answer["response"] == SECRET
    assert len(answer["history"]) == 4
    assert answer["conversation_id"] is None
    assert await columns_holding(service.database, SECRET) == set()
    kept = await entry(service)
    assert (kept["prompt"], kept["response"], kept["conversation_id"]) == (None, None, None)
    assert (kept["status"], kept["message_id"]) == ("completed", answer["message_id"])
    assert kept["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    assert kept["completion_tokens"] == answer["usage"]["completion_tokens"] > 0


async def test_a_stream_that_is_not_stored_leaves_only_its_numbers(service: Service) -> None:
    events = await stream(service.ours, script(SECRET), store=False)
    assert "".join(event["text"] for event in events) == SECRET
    assert events[-1]["conversation_id"] is None
    assert await columns_holding(service.database, SECRET) == set()
    assert (await entry(service))["completion_tokens"] == events[-1]["usage"]["completion_tokens"]


async def test_a_turn_that_is_not_stored_and_fails_leaves_only_its_numbers(service: Service) -> None:
    answer = await service.ours.post(NEW_MESSAGE, json={"prompt": script(SECRET, fail_after=3), "store": False})
    assert answer.status_code == 503
    assert await columns_holding(service.database, SECRET) == set()
    assert (await entry(service))["status"] == "failed"


async def test_what_is_not_stored_can_be_filtered_and_erased_like_any_other(service: Service) -> None:
    body = {"prompt": script("hello"), "store": False, "user": "ann"}
    answer = (await service.ours.post(NEW_MESSAGE, json=body)).json()
    found = (await service.ours.get(HISTORY, params={"user": "ann"})).json()["messages"]
    assert [one["message_id"] for one in found] == [answer["message_id"]]
    assert (await service.ours.get(HISTORY, params={"q": "hello"})).json()["messages"] == []
    erased = await service.ours.delete("/chat/users", params={"user": "ann"})
    assert erased.json()["rows"] == {"turns": 1}


async def test_what_is_not_stored_cannot_continue_a_stored_conversation(service: Service) -> None:
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("one")})).json()
    body = {"prompt": script("two"), "conversation_id": first["conversation_id"], "store": False}
    refused = await service.ours.post(NEW_MESSAGE, json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "conversation_id")
    assert (await service.ours.post(NEW_MESSAGE, json=body | {"store": True})).json()["response"] == "two"


async def test_a_tenant_may_want_only_numbers_kept_and_no_request_overrules_it(
    service: Service,
) -> None:
    stored = (await service.theirs.post(NEW_MESSAGE, json={"prompt": script("one")})).json()
    await TenantService(service.database).change(TESTER, service.our_id, keeps_content=False)
    answer = (await service.ours.post(NEW_MESSAGE, json={"prompt": script(SECRET)})).json()
    assert (answer["response"], answer["conversation_id"]) == (SECRET, None)
    assert await columns_holding(service.database, SECRET) == set()
    assert (await entry(service))["prompt"] is None
    refused = await service.ours.post(NEW_MESSAGE, json={"prompt": script(SECRET), "store": True})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "store")
    body = {"prompt": script(SECRET), "conversation_id": stored["conversation_id"]}
    foreign = await service.ours.post(NEW_MESSAGE, json=body)
    assert (foreign.status_code, foreign.json()["error"]["param"]) == (400, "conversation_id")
    assert (await service.theirs.post(NEW_MESSAGE, json=body)).status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_store_is_a_boolean(service: Service) -> None:
    wrong: list[Any] = ["false", 0, []]
    for store in wrong:
        refused = await service.ours.post(NEW_MESSAGE, json={"prompt": script("one"), "store": store})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "store")


async def recorded(service: Service) -> list[bytes | None]:
    """The bodies of answers under idempotency keys."""
    async with service.database.begin(service.our_id) as session:
        return list(await session.scalars(select(IdempotencyKey.body)))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("path", "body", "encoding"),
    [
        (NEW_MESSAGE, {"prompt": script(SECRET), "store": False}, "utf-8"),
        (NEW_MESSAGE, {"prompt": script(SECRET), "store": False}, "utf-8-sig"),
        (NEW_MESSAGE, {"prompt": script(SECRET), "store": False}, "utf-16"),
        ("/v1/completions", {"model": "scripted", "prompt": [SECRET] * 2, "echo": True, "store": 0}, "utf-8"),
    ],
)
async def test_however_a_request_says_that_it_is_not_stored_its_answer_is_not_recorded(
    service: Service, path: str, body: dict[str, Any], encoding: str
) -> None:
    content = json.dumps(body).encode(encoding)
    answer = await service.ours.post(path, content=content, headers=_KEYED)
    assert (answer.status_code, SECRET in answer.text) == (200, True)
    assert await recorded(service) == [None]
    again = await service.ours.post(path, content=content, headers=_KEYED)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_answer_not_kept")


async def test_an_answer_is_recorded_by_the_policy_that_its_turn_began_with(service: Service) -> None:
    body = {"prompt": script(SECRET)}
    await service.ours.post(NEW_MESSAGE, json=body, headers=_KEYED)
    (kept,) = await recorded(service)
    assert kept is not None
    await claim_elsewhere(service)
    asking = asyncio.create_task(service.ours.post(NEW_MESSAGE, json=body, headers=_KEYED))
    await until_waited_for(service)
    await TenantService(service.database).change(TESTER, service.our_id, keeps_content=False)
    # A tenant is remembered for a moment.
    nowhere = {"prompt": "hi", "store": True, "conversation_id": "0" * 32}
    while (await service.ours.post(NEW_MESSAGE, json=nowhere)).status_code == 404:
        pass
    await die_elsewhere(service)
    assert (await asking).json()["conversation_id"] is None
    assert await recorded(service) == [None]
