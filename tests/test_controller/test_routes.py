"""Every route, without anyone remembering: closed unless it is listed as open, and blind to other tenants."""

import re
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.main import _CONTROLLERS, create_app
from app.settings import Settings
from database.identifier import new_id
from tests.openai_clients import CHAT, MODEL, asking
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, SECRET, Service, script

OPEN = {"/", "/healthz", "/readyz", "/docs", "/docs/{name}", "/openapi.json"}
# Every id that a path may name. A new one fails below until it is made there of another tenant's.
IDS = {"message_id", "conversation_id", "completion_id", "response_id", "item_id", "tenant_id", "key_id", "model"}
# What a route needs besides its path.
QUERIES = {"/chat/users": {"user": "a user"}, "/admin/v1/tenants/{tenant_id}/users": {"user": "a user"}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions/{completion_id}": {"metadata": {}},
    "/v1/conversations/{conversation_id}": {"metadata": {}},
    "/v1/conversations/{conversation_id}/items": {"items": [{"role": "user", "content": "hi"}]},
}
ADMIN = "/admin/"


def body_of(method: str, path: str) -> dict[str, Any]:
    """What this route needs for a body; `{}` where it has none."""
    return BODIES.get(path, {}) if method == "POST" else {}


@cache
def application() -> FastAPI:
    settings = Settings(secret=SECRET.decode())
    return create_app(settings, secret=SECRET, engine_socket=Path("/nowhere"), instance="0" * 32)


def routes() -> list[tuple[str, str]]:
    found = []
    for path, methods in application().openapi()["paths"].items():
        found += [(method.upper(), path) for method in methods]
    return found


def test_the_description_lists_every_route_but_its_twin_without_a_slash() -> None:
    described = {path for _, path in routes()}
    hidden = {
        route.path_format
        for controller in _CONTROLLERS
        for route in controller.router.routes
        if isinstance(route, APIRoute) and route.path_format not in described and route.path not in OPEN
    }
    assert "/chat/new/message" in hidden
    assert all(path.rstrip("/") in described or f"{path}/" in described for path in hidden)


async def test_every_route_but_the_open_ones_wants_a_key(service: Service) -> None:
    closed = [(method, path) for method, path in routes() if path not in OPEN]
    assert closed
    for method, path in closed:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"x-api-key": "sk-chatglm-" + "0" * 46}):
            response = await service.nobody.request(
                method, path.format(**dict.fromkeys(IDS, new_id())), headers=headers
            )
            assert response.status_code == 401, (method, path, response.text)
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"


async def test_the_open_routes_want_none(service: Service) -> None:
    for path in OPEN:
        assert (await service.nobody.get(path.format(name="start.js"))).status_code == 200, path


async def test_a_key_may_come_in_either_header(service: Service) -> None:
    key = service.ours.headers["authorization"].removeprefix("Bearer ")
    for headers in ({"x-api-key": key}, {"Authorization": f"bearer {key}"}):
        assert (await service.nobody.get("/chat/get/messages/", headers=headers)).status_code == 200


async def their_ids(service: Service) -> dict[str, str]:
    """One id of each kind that belongs to the other tenant."""
    made = (await service.theirs.post(NEW_MESSAGE, json={"prompt": script("secret"), "user": "a user"})).json()
    response = (await service.theirs.post("/v1/responses", json={"model": MODEL, "input": script("secret")})).json()
    (key,) = await service.keys.page(service.their_id, None, 1)
    stored = (await service.theirs.post(CHAT, json=asking(script("secret"), store=True, user="a user"))).json()
    url = f"/v1/conversations/{made['conversation_id']}/items"
    item = (await service.theirs.get(url)).json()["data"][0]
    ids = {name: made[name] for name in ("message_id", "conversation_id")}
    ids |= {"completion_id": stored["id"], "item_id": item["id"]}
    # Models are no tenant's: any that is not there will do.
    return ids | {"tenant_id": service.their_id, "key_id": key.id, "model": new_id(), "response_id": response["id"]}


def with_ids() -> list[tuple[str, str]]:
    found = [(method, path) for method, path in routes() if "{" in path]
    assert set(re.findall(r"\{(\w+)\}", " ".join(path for _, path in found))) == IDS
    return found


async def test_another_tenants_id_answers_exactly_as_a_random_one(service: Service) -> None:
    theirs = await their_ids(service)
    for method, path in with_ids():
        random = dict.fromkeys(IDS, new_id())
        foreign, other = [
            await service.ours.request(method, path.format(**ids), params=QUERIES.get(path), json=body_of(method, path))
            for ids in (theirs, random)
        ]
        assert_same(foreign, other)
        assert foreign.status_code == (403 if path.startswith(ADMIN) else 404), (method, path)
    assert len((await service.theirs.get("/chat/get/messages/")).json()["messages"]) == 3


async def test_an_administrator_finds_nothing_of_one_tenant_under_another(service: Service) -> None:
    theirs = await their_ids(service)
    for method, path in with_ids():
        if not path.startswith(ADMIN):
            continue
        # Under a tenant that is not there; and, where more than the tenant is named, under one that it is not of.
        for tenant_id in [new_id(), service.our_id] if path.count("{") > 1 else [new_id()]:
            foreign, random = [
                await service.admin.request(
                    method, path.format(**ids | {"tenant_id": tenant_id}), params=QUERIES.get(path), json={}
                )
                for ids in (theirs, dict.fromkeys(IDS, new_id()))
            ]
            assert_same(foreign, random)
            assert foreign.status_code == 404, (method, path, foreign.text)
    assert len((await service.theirs.get("/chat/get/messages/")).json()["messages"]) == 3


async def test_another_tenants_user_answers_exactly_as_a_random_one(service: Service) -> None:
    await their_ids(service)
    foreign = await service.ours.delete("/chat/users", params={"user": "a user"})
    assert_same(foreign, await service.ours.delete("/chat/users", params={"user": "nobody"}))
    assert foreign.status_code == 404


async def test_ids_in_bodies_and_queries_of_another_tenant_answer_as_random_ones(service: Service) -> None:
    made = (await service.theirs.post(NEW_MESSAGE, json={"prompt": script("secret")})).json()
    (entry,) = (await service.theirs.get("/chat/get/messages/")).json()["messages"]
    for stream in (False, True):
        body: dict[str, Any] = {"prompt": "hi", "stream": stream}
        foreign = await service.ours.post(NEW_MESSAGE, json=body | {"conversation_id": made["conversation_id"]})
        random = await service.ours.post(NEW_MESSAGE, json=body | {"conversation_id": new_id()})
        assert_same(foreign, random)
        assert foreign.status_code == 404
    for name in ("conversation_id", "key", "after"):
        foreign = await service.ours.get("/chat/get/messages/", params={name: entry.get(name, made["message_id"])})
        random = await service.ours.get("/chat/get/messages/", params={name: new_id()})
        assert_same(foreign, random)


async def test_ids_in_requests_for_responses_of_another_tenant_answer_as_random_ones(service: Service) -> None:
    theirs = await their_ids(service)
    response = (await service.theirs.get(f"/v1/responses/{theirs['response_id']}")).json()
    for name, foreign, random in (
        ("previous_response_id", theirs["response_id"], f"resp_{new_id()}"),
        ("conversation", theirs["conversation_id"], f"conv_{new_id()}"),
        ("input", [{"type": "item_reference", "id": response["output"][0]["id"]}], [{"id": f"msg_{new_id()}"}]),
    ):
        for path in ("/v1/responses", "/v1/responses/input_tokens"):
            bodies: list[dict[str, Any]] = [{"model": MODEL, "input": "hi", name: value} for value in (foreign, random)]
            answers = [await service.ours.post(path, json=body) for body in bodies]
            assert_same(*answers)
            assert answers[0].status_code in {400, 404}, (name, path, answers[0].text)


def assert_same(one: Any, other: Any) -> None:
    assert one.status_code == other.status_code
    assert one.content == other.content
    ignored = {"date", "x-request-id", "openai-processing-ms"}
    assert {k: v for k, v in one.headers.items() if k not in ignored} == {
        k: v for k, v in other.headers.items() if k not in ignored
    }


async def test_a_missing_scope_is_forbidden(service: Service) -> None:
    made = await service.keys.create(TESTER, service.our_id, scopes=[])
    headers = {"Authorization": f"Bearer {made.secret}"}
    for method, path in routes():
        if path not in OPEN:
            url = path.format(**dict.fromkeys(IDS, new_id()))
            response = await service.nobody.request(method, url, headers=headers, json={"prompt": "hi"})
            assert response.status_code == 403, (method, path, response.text)
            assert response.json()["error"]["code"] == "insufficient_scope"


async def test_a_query_parameter_that_a_route_does_not_know_is_refused_by_name(sqlite_service: Service) -> None:
    for method, path in routes():
        if path in OPEN:
            continue
        caller = sqlite_service.admin if path.startswith(ADMIN) else sqlite_service.ours
        url = path.format(**dict.fromkeys(IDS, new_id()))
        params = QUERIES.get(path, {}) | {"api-version": "1"}
        for headers in ({}, {"Idempotency-Key": "a-key"}) if method == "POST" else ({},):
            refused = await caller.request(method, url, params=params, headers=headers, json=body_of(method, path))
            assert refused.status_code == 400, (method, path, refused.text)
            error = refused.json()["error"]
            assert (error["param"], error["code"]) == ("api-version", "invalid_value"), (method, path)


def bodiless() -> list[tuple[str, str]]:
    """Every route without a body, those that the description does not list included."""
    found = [one for one in application().routes if isinstance(one, APIRoute) and one.body_field is None]
    return [(method, one.path_format) for one in found for method in one.methods or () if one.path_format not in OPEN]


async def test_a_body_is_refused_where_a_route_has_none(sqlite_service: Service) -> None:
    assert {("POST", "/admin/v1/purge"), ("DELETE", "/chat/users/"), ("GET", "/v1/models")} <= set(bodiless())
    for method, path in bodiless():
        caller = sqlite_service.admin if path.startswith(ADMIN) else sqlite_service.ours
        url, params = path.format(**dict.fromkeys(IDS, new_id())), QUERIES.get(path.rstrip("/"))
        for body in (b'{"dry_run": true}', b"null", b"[]", b"{}{}", b"dry_run=true", b"\xff", b"[" * 100_000):
            refused = await caller.request(method, url, params=params, content=body)
            assert refused.status_code == 400, (method, path, body, refused.text)
            error = refused.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_value")
            assert "This route knows no body" in error["message"], (method, path, body)
        answers = [await caller.request(method, url, params=params, content=body) for body in (b"", b"{}", b" {\r\n}")]
        assert all(answer.status_code in {200, 404} for answer in answers), (method, path, answers[0].text)
        assert len({answer.status_code for answer in answers}) == 1, (method, path)


async def test_a_body_in_pieces_is_refused_too_and_nobody_hears_of_routes_by_it(sqlite_service: Service) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for piece in (b"{", b'"dry_run": ', b"true}"):
            yield piece

    url = "/admin/v1/purge"
    assert (await sqlite_service.admin.post(url, content=in_pieces())).status_code == 400
    assert (await sqlite_service.ours.post(url, content=in_pieces())).status_code == 403
    assert (await sqlite_service.nobody.post(url, content=in_pieces())).status_code == 401


def test_no_route_says_that_it_answers_422() -> None:
    description = application().openapi()
    statuses = {
        status
        for path in description["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    assert "422" not in statuses
    assert "400" in statuses
    assert "ValidationError" not in str(description)
