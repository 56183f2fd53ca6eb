"""`/admin/v1/tenants/{tenant_id}/keys`: shown once, changed, rotated, revoked; and what each refusal is called."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.key_token import make_key
from tests.service import NEW_MESSAGE, Service, client, script
from tests.test_controller.test_admin_tenant_controller import TENANTS, until_status

HELLO = {"prompt": script("hello")}
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error"}


def keys_of(tenant_id: str) -> str:
    return f"{TENANTS}/{tenant_id}/keys"


async def make(service: Service, **body: Any) -> dict[str, Any]:
    made = await service.admin.post(keys_of(service.our_id), json=body)
    assert made.status_code == 201, made.text
    key: dict[str, Any] = made.json()
    return key


async def answer(service: Service, key: str) -> tuple[int, str | None]:
    """Status and error code of a turn with this key."""
    async with client(service.url, key) as caller:
        response = await caller.post(NEW_MESSAGE, json=HELLO)
        return response.status_code, response.json().get("error", {}).get("code")


async def test_a_key_is_shown_when_it_is_made_and_never_again(service: Service) -> None:
    made = await make(service, name="website", models=["scripted"])
    assert await answer(service, made["key"]) == (200, None)
    url = keys_of(service.our_id)
    shown = (await service.admin.get(f"{url}/{made['id']}")).json()
    assert shown["last_used_at"] is not None
    assert shown | {"last_used_at": None} == {name: value for name, value in made.items() if name != "key"}
    listed = await service.admin.get(url)
    assert listed.json()["data"][-1] == shown
    assert made["key"] not in listed.text
    assert made["key"] not in (await service.admin.get("/admin/v1/audit")).text


async def void_keys(service: Service, tenant_id: str) -> list[str]:
    """Of this tenant: one that has expired, and one that is revoked."""
    url = keys_of(tenant_id)
    expired, revoked = [(await service.admin.post(url, json={})).json() for _ in range(2)]
    end = datetime.now(UTC).isoformat()
    assert (await service.admin.post(f"{url}/{expired['id']}", json={"expires_at": end})).status_code == 200
    assert (await service.admin.post(f"{url}/{revoked['id']}/revoke")).json()["revoked_at"] is not None
    return [expired["key"], revoked["key"]]


async def test_every_kind_of_refusal_has_its_status_and_code(service: Service) -> None:
    expired, revoked = await void_keys(service, service.our_id)
    suspended = (await service.admin.post(keys_of(service.their_id), json={})).json()
    expired_of_suspended, revoked_of_suspended = await void_keys(service, service.their_id)
    await service.admin.post(f"{TENANTS}/{service.their_id}/suspend")
    reader = await make(service, scopes=["history:read"])
    elsewhere = await make(service, models=["another model"])
    table = {
        expired: (401, "invalid_api_key"),
        revoked: (401, "invalid_api_key"),
        "malformed": (401, "invalid_api_key"),
        make_key(): (401, "invalid_api_key"),
        suspended["key"]: (403, "tenant_suspended"),
        expired_of_suspended: (401, "invalid_api_key"),
        revoked_of_suspended: (401, "invalid_api_key"),
        reader["key"]: (403, "insufficient_scope"),
        elsewhere["key"]: (404, "model_not_found"),
    }
    for key, expected in table.items():
        async with client(service.url, key) as caller:
            response = await caller.post(NEW_MESSAGE, json=HELLO)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == expected
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["type"] == _TYPES[response.status_code]
    async with client(service.url, elsewhere["key"]) as caller:
        assert (await caller.get("/chat/get/messages/")).json()["messages"] == []


async def test_a_key_that_was_let_in_is_refused_within_five_seconds_of_its_revocation(service: Service) -> None:
    made = await make(service)
    async with client(service.url, made["key"]) as caller:
        await until_status(caller, 200)
        await service.admin.post(f"{keys_of(service.our_id)}/{made['id']}/revoke")
        await until_status(caller, 401)


async def test_both_keys_of_a_rotation_work_and_the_old_one_says_until_when(service: Service) -> None:
    made = await make(service, name="website", scopes=["chat"])
    url = f"{keys_of(service.our_id)}/{made['id']}"
    rotated = await service.admin.post(f"{url}/rotate", json={"overlap_hours": 2})
    assert rotated.status_code == 201
    new = rotated.json()
    assert (new["name"], new["scopes"]) == ("website", ["chat"])
    assert [await answer(service, key["key"]) for key in (made, new)] == [(200, None)] * 2
    old = (await service.admin.get(url)).json()
    assert old["replaced_by"] == new["id"]
    left = datetime.fromisoformat(old["expires_at"]) - datetime.fromisoformat(new["created_at"])
    assert left == timedelta(hours=2)
    endless = await service.admin.post(url, json={"expires_at": None})
    assert (endless.status_code, endless.json()["error"]["param"]) == (400, "expires_at")
    again = await service.admin.post(f"{url}/rotate", json={})
    assert (again.status_code, again.json()["error"]["param"]) == (400, "key_id")


async def test_a_rotation_without_a_body_overlaps_for_a_day(sqlite_service: Service) -> None:
    made = await make(sqlite_service)
    url = f"{keys_of(sqlite_service.our_id)}/{made['id']}"
    for body in (b"null", b"[]", b"0"):
        assert (await sqlite_service.admin.post(f"{url}/rotate", content=body)).status_code == 400, body
    new = (await sqlite_service.admin.post(f"{url}/rotate")).json()
    old = (await sqlite_service.admin.get(url)).json()
    left = datetime.fromisoformat(old["expires_at"]) - datetime.fromisoformat(new["created_at"])
    assert left == timedelta(hours=24)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_bad_input_is_named_and_makes_no_key(service: Service) -> None:
    url = keys_of(service.our_id)
    bad: list[tuple[str, dict[str, Any]]] = [
        ("name", {"name": None}),
        ("name", {"name": "x" * 101}),
        ("scopes.0", {"scopes": ["everything"]}),
        ("scopes", {"scopes": ["admin"]}),
        ("scopes", {"scopes": []}),
        ("models", {"models": []}),
        ("models.0", {"models": [""]}),
        ("expires_at", {"expires_at": "2020-01-01T00:00:00Z"}),
        ("expires_at", {"expires_at": "2050-01-01T00:00:00"}),
        ("expires_at", {"expires_at": "0001-01-01T00:00:00+14:00"}),
        ("expires_at", {"expires_at": "9999-12-31T23:59:59-14:00"}),
        ("expires_at", {"expires_at": "soon"}),
        ("key", {"key": "sk-chatglm-mine"}),
    ]
    for param, body in bad:
        response = await service.admin.post(url, json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param), (body, response.text)
    listed = (await service.admin.get(url)).json()["data"]
    assert len(listed) == 1
    for hours in (-1, 1.5, 10**6, "2"):
        response = await service.admin.post(f"{url}/{listed[0]['id']}/rotate", json={"overlap_hours": hours})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "overlap_hours")
    assert (await service.admin.post(f"{url}/{listed[0]['id']}", json={"scopes": ["chat"]})).status_code == 400
    assert (await service.admin.get(url)).json()["data"] == listed
