"""`/admin/v1/tenants`: made, listed, changed, suspended, erased; by administrators alone."""

from datetime import timedelta
from time import monotonic
from typing import Any

import httpx2
import pytest

from database.models import Conversation
from tests.service import NEW_MESSAGE, Service, client, script

TENANTS = "/admin/v1/tenants"


async def until_status(caller: httpx2.AsyncClient, status: int) -> httpx2.Response:
    """What a caller hears once it is answered so; fails if one that asks after five seconds is not."""
    began_at = asked_at = monotonic()
    while (response := await caller.get("/chat/get/messages/")).status_code != status:
        assert asked_at - began_at < 5
        asked_at = monotonic()
    return response


async def test_a_made_tenant_is_shown_listed_and_changed(service: Service) -> None:
    made = await service.admin.post(TENANTS, json={"name": "new", "turn_days": 30})
    assert made.status_code == 201
    tenant = made.json()
    shown = {"object": "tenant", "name": "new", "administers": False, "keeps_content": True, "turn_days": 30}
    shown |= {"id": tenant["id"], "conversation_days": None, "suspended_at": None, "created_at": tenant["created_at"]}
    shown |= {"weight": 1.0, "max_places": None}
    assert tenant == shown
    url = f"{TENANTS}/{tenant['id']}"
    change = {"name": "newer", "turn_days": None, "keeps_content": False, "max_places": 8}
    changed = await service.admin.post(url, json=change)
    assert changed.json() == shown | change
    assert (await service.admin.get(url)).json() == changed.json()


async def test_lists_have_openais_shape_and_pages_follow_each_other(service: Service) -> None:
    for number in range(4):
        await service.admin.post(TENANTS, json={"name": f"tenant {number}"})
    names: list[str] = []
    params: dict[str, Any] = {"limit": 3}
    while True:
        page = (await service.admin.get(TENANTS, params=params)).json()
        assert page["object"] == "list"
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        names += [tenant["name"] for tenant in page["data"]]
        if not page["has_more"]:
            break
        params["after"] = page["last_id"]
    assert names == ["ours", "theirs", "administrators", *(f"tenant {number}" for number in range(4))]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_bad_input_is_named_and_changes_nothing(service: Service) -> None:
    url = f"{TENANTS}/{service.our_id}"
    before = (await service.admin.get(url)).json()
    bad: list[tuple[str, dict[str, Any]]] = [
        ("name", {"name": ""}),
        ("name", {"name": None}),
        ("name", {"name": " x"}),
        ("name", {"name": "x" * 101}),
        ("name", {"name": "a\x00"}),
        ("keeps_content", {"keeps_content": None}),
        ("keeps_content", {"keeps_content": "no"}),
        ("turn_days", {"turn_days": 0}),
        ("turn_days", {"turn_days": 1.5}),
        ("conversation_days", {"conversation_days": 10**9}),
        ("weight", {"weight": 0}),
        ("max_places", {"max_places": 0}),
        ("max_places", {"max_places": -1}),
        ("max_places", {"max_places": 1.5}),
        ("max_places", {"max_places": 1_000_001}),
        ("administers", {"administers": True}),
        ("suspended_at", {"suspended_at": None}),
    ]
    for param, body in bad:
        for response in (
            await service.admin.post(url, json=body),
            await service.admin.post(TENANTS, json={"name": "new"} | body),
        ):
            assert (response.status_code, response.json()["error"]["param"]) == (400, param), (body, response.text)
    assert (await service.admin.post(TENANTS, json={})).json()["error"]["param"] == "name"
    taken = await service.admin.post(url, json={"name": "theirs"})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "name_taken")
    assert taken.headers["x-should-retry"] == "false"
    assert (await service.admin.get(url)).json() == before
    for query in ({"limit": 0}, {"limit": 101}, {"after": "x"}, {"order": "asc"}):
        response = await service.admin.get(TENANTS, params=query)
        assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(query)))


async def test_a_suspended_tenants_keys_are_refused_within_five_seconds_and_let_in_again(service: Service) -> None:
    await until_status(service.ours, 200)
    suspended = await service.admin.post(f"{TENANTS}/{service.our_id}/suspend")
    assert suspended.json()["suspended_at"] is not None
    error = (await until_status(service.ours, 403)).json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("permission_error", "tenant_suspended", None)
    assert (await service.theirs.get("/chat/get/messages/")).status_code == 200
    resumed = await service.admin.post(f"{TENANTS}/{service.our_id}/resume")
    assert resumed.json()["suspended_at"] is None
    assert (await service.ours.get("/chat/get/messages/")).status_code == 200


async def test_a_tenant_is_erased_once_it_is_suspended(service: Service) -> None:
    await service.ours.post(NEW_MESSAGE, json={"prompt": script("secret")})
    url = f"{TENANTS}/{service.our_id}"
    refused = await service.admin.delete(url)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tenant_id")
    await service.admin.post(f"{url}/suspend")
    erased = await service.admin.delete(url)
    rows = {"conversations": 1, "turns": 1, "turn_texts": 1, "items": 2, "usage": 1, "api_keys": 1, "tenants": 1}
    assert erased.json() == {"id": service.our_id, "deleted": True, "rows": rows}
    assert (await service.admin.get(url)).status_code == 404


async def test_the_administrators_can_neither_be_suspended_nor_erased(service: Service) -> None:
    tenants = (await service.admin.get(TENANTS)).json()["data"]
    (own,) = [tenant["id"] for tenant in tenants if tenant["administers"]]
    assert (await service.admin.post(f"{TENANTS}/{own}/suspend")).status_code == 400
    assert (await service.admin.delete(f"{TENANTS}/{own}")).status_code == 400


async def test_administrators_erase_a_tenants_conversation_and_user(service: Service) -> None:
    asked = {"prompt": script("secret"), "user": "ann/../bob"}
    first, *_ = [(await service.ours.post(NEW_MESSAGE, json=asked)).json() for _ in range(3)]
    url = f"{TENANTS}/{service.our_id}"
    rows = {"conversations": 1, "turns": 1, "turn_texts": 1, "items": 2}
    erased = await service.admin.delete(f"{url}/conversations/{first['conversation_id']}")
    assert erased.json() == {"id": first["conversation_id"], "deleted": True, "rows": rows}
    erased = await service.admin.delete(f"{url}/users", params={"user": "ann/../bob"})
    expected = {"id": None, "deleted": True, "rows": {table: 2 * count for table, count in rows.items()}}
    assert erased.json() == expected
    assert (await service.ours.get("/chat/get/messages/")).json()["messages"] == []


async def test_what_would_be_erased_or_purged_is_counted_first_and_then_it_is_that(service: Service) -> None:
    asked = {"prompt": script("secret"), "user": "ann"}
    first, *_ = [(await service.ours.post(NEW_MESSAGE, json=asked)).json() for _ in range(4)]
    url = f"{TENANTS}/{service.our_id}"
    await _age(service, first["conversation_id"])
    second = (await service.ours.get("/chat/get/messages/")).json()["messages"][0]
    for path, params in (
        ("/admin/v1/purge", {}),
        (f"{url}/conversations/{second['conversation_id']}", {}),
        (f"{url}/users", {"user": "ann"}),
        (url, {}),
    ):
        method = "POST" if path.endswith("purge") else "DELETE"
        if path == url:
            await service.admin.post(f"{url}/suspend")
        log = (await service.admin.get("/admin/v1/audit")).json()["data"]
        counted = (await service.admin.request(method, path, params=params | {"dry_run": "true"})).json()
        assert (await service.admin.get("/admin/v1/audit")).json()["data"] == log
        done = (await service.admin.request(method, path, params=params)).json()
        assert (counted.pop("deleted"), done.pop("deleted")) == (False, True)
        assert counted == done, path
        assert counted["rows"], path


async def test_what_would_be_erased_of_a_tenant_that_is_not_there_is_not_counted(sqlite_service: Service) -> None:
    url = f"{TENANTS}/{'0' * 32}"
    for path in ("?", "/users?user=ann&", f"/conversations/{'0' * 32}?"):
        counted = await sqlite_service.admin.delete(f"{url}{path}dry_run=true")
        assert counted.status_code == 404, path


async def test_what_cannot_be_erased_is_refused_alike_when_it_is_only_counted(sqlite_service: Service) -> None:
    (own,) = [one["id"] for one in (await sqlite_service.admin.get(TENANTS)).json()["data"] if one["administers"]]
    ours = f"{TENANTS}/{sqlite_service.our_id}"
    for url, code in (
        (f"{TENANTS}/{'0' * 32}?", "tenant_not_found"),
        (f"{ours}/users?user=nobody&", "user_not_found"),
        (f"{ours}/conversations/{'0' * 32}?", "conversation_not_found"),
        (f"{TENANTS}/{own}?", "invalid_request"),
    ):
        erased, counted = [await sqlite_service.admin.delete(f"{url}dry_run={dry}") for dry in ("false", "true")]
        assert erased.json()["error"]["code"] == code, (url, erased.text)
        assert (counted.status_code, counted.json()) == (erased.status_code, erased.json()), url


async def _age(service: Service, conversation_id: str) -> None:
    """Let a conversation be older than its tenant keeps it."""
    await service.admin.post(f"{TENANTS}/{service.our_id}", json={"conversation_days": 30})
    async with service.database.begin(service.our_id) as session:
        conversation = await session.get_one(Conversation, conversation_id)
        conversation.used_at -= timedelta(days=31)


async def test_a_tenants_own_key_erases_a_user(service: Service) -> None:
    for user in ("ann", "bob"):
        await service.ours.post(NEW_MESSAGE, json={"prompt": script("secret"), "user": user})
    erased = await service.ours.delete("/chat/users", params={"user": "ann"})
    assert erased.json()["rows"] == {"conversations": 1, "turns": 1, "turn_texts": 1, "items": 2}
    assert len((await service.ours.get("/chat/get/messages/")).json()["messages"]) == 1
    missing = await service.ours.delete("/chat/users", params={"user": "ann"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "user_not_found")
    assert (await service.ours.delete("/chat/users")).json()["error"]["param"] == "user"


async def test_an_administrators_key_cannot_chat_unless_it_was_given_the_scope(service: Service) -> None:
    for method, path in (("POST", NEW_MESSAGE), ("GET", "/chat/get/messages/")):
        response = await service.admin.request(method, path, json={"prompt": script("hello")})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope")
    tenants = (await service.admin.get(TENANTS)).json()["data"]
    (own,) = [tenant["id"] for tenant in tenants if tenant["administers"]]
    made = await service.admin.post(f"{TENANTS}/{own}/keys", json={"scopes": ["admin", "chat"]})
    async with client(service.url, made.json()["key"]) as both:
        assert (await both.post(NEW_MESSAGE, json={"prompt": script("hello")})).json()["response"] == "hello"
        assert (await both.get(TENANTS)).status_code == 200
