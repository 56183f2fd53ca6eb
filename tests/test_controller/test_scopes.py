"""What each scope lets a key do: every route, and what is told to whom may only chat."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from database.identifier import new_id
from services.principal import Scope
from services.tenant_service import TenantService
from tests.event_stream import events, text
from tests.openai_clients import CHAT, MODEL, asking
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, client, script
from tests.test_controller.test_routes import ADMIN, BODIES, IDS, OPEN, QUERIES, routes

# All that a route's callers need; those of the administration need `admin`, all others `chat`. Before you add a route
# that shows what was said or stored before to whom may only chat, read "What was said before" in CONTRIBUTING.md.
_CHATS = {Scope.CHAT}
_READS = {Scope.HISTORY_READ}
_ERASES = {Scope.HISTORY_DELETE}
WANTED: dict[str, set[Scope]] = {
    **dict.fromkeys(
        [
            "POST /chat/new/message/",
            "GET /chat/stream/{message_id}",
            "DELETE /chat/stream/{message_id}",
            "GET /v1/models",
            "GET /v1/models/{model}",
            "POST /v1/tokenize",
            "POST /v1/detokenize",
            "POST /v1/completions",
            "POST /v1/chat/completions",
            "POST /v1/responses",
            "POST /v1/responses/input_tokens",
            "POST /v1/conversations",
            "POST /v1/conversations/{conversation_id}/items",
        ],
        _CHATS,
    ),
    **dict.fromkeys(
        [
            "GET /chat/get/messages/",
            "GET /v1/chat/completions",
            "GET /v1/chat/completions/{completion_id}",
            "GET /v1/chat/completions/{completion_id}/messages",
            "GET /v1/responses/{response_id}",
            "GET /v1/responses/{response_id}/input_items",
            "GET /v1/conversations",
            "GET /v1/conversations/{conversation_id}",
            "GET /v1/conversations/{conversation_id}/items",
            "GET /v1/conversations/{conversation_id}/items/{item_id}",
            "GET /v1/usage",
        ],
        _READS,
    ),
    **dict.fromkeys(
        [
            "POST /v1/chat/completions/{completion_id}",
            "POST /v1/conversations/{conversation_id}",
            "POST /v1/responses/{response_id}/cancel",
        ],
        _CHATS | _READS,
    ),
    **dict.fromkeys(
        [
            "DELETE /chat/messages/{message_id}",
            "DELETE /chat/conversations/{conversation_id}",
            "DELETE /chat/users",
            "DELETE /v1/chat/completions/{completion_id}",
            "DELETE /v1/responses/{response_id}",
            "DELETE /v1/conversations/{conversation_id}",
        ],
        _ERASES,
    ),
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}": _ERASES | _READS,
}


async def test_every_route_wants_the_scopes_that_are_listed(sqlite_service: Service) -> None:
    administrators = await TenantService(sqlite_service.database).administrators(TESTER)
    headers: dict[frozenset[str], dict[str, str]] = {}
    found: dict[str, set[Scope]] = {}
    for method, path in routes():
        if path in OPEN:
            continue
        scopes: frozenset[Scope] = frozenset()
        while True:
            if scopes not in headers:
                made = await sqlite_service.keys.create(TESTER, administrators.id, scopes=scopes)
                headers[scopes] = {"Authorization": f"Bearer {made.secret}"}
            answer = await sqlite_service.nobody.request(
                method,
                path.format(**dict.fromkeys(IDS, new_id())),
                headers=headers[scopes],
                params=QUERIES.get(path),
                json=BODIES.get(path, {}),
            )
            if answer.status_code != 403:
                break
            lacking = re.search(r"lacks the scope '(.+)'", answer.json()["error"]["message"])
            assert lacking is not None, (method, path, answer.text)
            scopes |= {Scope(lacking[1])}
        found[f"{method} {path}"] = set(scopes)
    administration = {route: {Scope.ADMIN} for route in found if route.split()[1].startswith(ADMIN)}
    assert administration
    assert found == WANTED | administration


@pytest.fixture
async def chats(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller of our tenant that may chat and nothing else."""
    made = await service.keys.create(TESTER, service.our_id, scopes={Scope.CHAT})
    async with client(service.url, made.secret) as caller:
        yield caller


async def test_who_may_only_chat_reads_no_stored_completion_by_labelling_it(
    service: Service, chats: httpx2.AsyncClient
) -> None:
    stored = (await service.ours.post(CHAT, json=asking(script("secret"), store=True, metadata={"a": "b"}))).json()
    refused = await chats.post(f"{CHAT}/{stored['id']}", json={"metadata": {}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    assert (await service.ours.get(f"{CHAT}/{stored['id']}")).json()["metadata"] == {"a": "b"}


async def test_nor_the_user_of_a_conversation_nor_who_may_only_erase_its_items(
    service: Service, chats: httpx2.AsyncClient
) -> None:
    made = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("hi"), "user": "ann"})).json()
    url = f"/v1/conversations/{made['conversation_id']}"
    assert (await chats.post(url, json={"metadata": {}})).status_code == 403
    (item, *_) = (await service.ours.get(f"{url}/items")).json()["data"]
    key = await service.keys.create(TESTER, service.our_id, scopes={Scope.HISTORY_DELETE})
    async with client(service.url, key.secret) as erases:
        assert (await erases.delete(f"{url}/items/{item['id']}")).status_code == 403
        assert (await service.ours.get(f"{url}/items/{item['id']}")).status_code == 200
        assert (await erases.delete(url)).status_code == 200


async def test_who_may_only_chat_hears_its_turn_in_the_background_also_after_its_end(
    service: Service, chats: httpx2.AsyncClient
) -> None:
    begun = (await chats.post(NEW_MESSAGE, json={"prompt": script("hello"), "background": True})).json()
    url = f"/chat/stream/{begun['message_id']}"
    for _ in range(2):
        assert text(events((await chats.get(url)).text)) == "hello"
    response = {"model": MODEL, "input": script("hello"), "background": True}
    begun = (await chats.post("/v1/responses", json=response)).json()
    assert text(events((await chats.get(f"/chat/stream/{begun['id'].removeprefix('resp_')}")).text)) == "hello"


async def test_but_none_that_was_answered_to_somebody_else(service: Service, chats: httpx2.AsyncClient) -> None:
    made = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("secret")})).json()
    url = f"/chat/stream/{made['message_id']}"
    refused = await chats.get(url)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    seen = await chats.get(url, headers={"Last-Event-ID": "6"})
    assert seen.status_code == 403
    assert text(events((await service.ours.get(url)).text)) == "secret"


async def test_nor_while_it_runs_also_where_somebody_else_listens_again(
    service: Service, chats: httpx2.AsyncClient
) -> None:
    asked = {"prompt": script("secret " * 50, rate=20), "stream": True}
    async with service.ours.stream("POST", NEW_MESSAGE, json=asked) as streamed:
        lines = streamed.aiter_lines()
        async for line in lines:
            if line.startswith("data: "):
                break
        (message,) = (await service.ours.get("/chat/get/messages/")).json()["messages"]
        url = f"/chat/stream/{message['message_id']}"
        assert (await chats.get(url)).status_code == 403
        async with service.ours.stream("GET", url) as again:
            assert again.status_code == 200
            assert (await chats.get(url)).status_code == 403
            service.hurry()
