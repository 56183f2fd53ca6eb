"""How often a turn asks the database before its engine begins."""

import re
from pathlib import Path
from typing import Any

import pytest
from asyncpg.protocol.protocol import Protocol

from app.controller.idempotent_route import IdempotentRoute
from app.main import _CONTROLLERS
from services import retention_service, turn_watch
from services.inference.engine import GenerationRequest
from services.inference.scripted import ScriptedCore
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, client, running_service, script

# What begins and ends transactions, and what gives a connection to a tenant.
_AROUND = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SET)\b")
_SAY = script("hi")
# All of them begin before one ends.
_SLOW = script("hi", pause=0.5)
_MESSAGES = [{"role": "user", "content": _SAY}]
# The heaviest requests of each route, and how many statements come at the most: the check of the key and the note of
# its use, which is due once a minute, included.
REQUESTS: list[tuple[str, dict[str, Any], int]] = [
    (NEW_MESSAGE, {"prompt": _SAY}, 3),
    (NEW_MESSAGE, {"prompt": _SAY, "background": True}, 3),
    (NEW_MESSAGE, {"prompt": _SAY, "history": [{"role": "user", "content": "hello"}]}, 4),
    (NEW_MESSAGE, {"prompt": _SAY, "conversation_id": "{chat}"}, 4),
    ("/v1/chat/completions", {"model": "scripted", "messages": _MESSAGES, "store": True, "metadata": {"a": "b"}}, 3),
    ("/v1/completions", {"model": "scripted", "prompt": [_SLOW] * 8}, 4),
    ("/v1/responses", {"model": "scripted", "input": _SAY, "background": True}, 3),
    ("/v1/responses", {"model": "scripted", "input": _SAY, "previous_response_id": "{response}"}, 4),
    (
        "/v1/responses",
        {
            "model": "scripted",
            "input": [*_MESSAGES, {"type": "item_reference", "id": "{item}"}],
            "previous_response_id": "{response}",
        },
        5,
    ),
    (
        "/v1/responses",
        {
            "model": "scripted",
            "input": [*_MESSAGES, {"type": "item_reference", "id": "{item}"}],
            "conversation": "{conversation}",
        },
        5,
    ),
]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that PostgreSQL is sent, by whatever part of the service but its watch and its purge."""
    seen: list[str] = []
    # Which looks after all turns every second, also while one of them begins.
    monkeypatch.setattr(turn_watch, "_INTERVAL", 3600.0)
    monkeypatch.setattr(retention_service, "_SOON", (3600.0, 3600.0))

    def note(sql: str) -> None:
        if not _AROUND.match(sql):
            seen.append(sql)

    def patch(name: str) -> None:
        plain = getattr(Protocol, name)

        def noted(self: Protocol, *arguments: Any, **named: Any) -> Any:
            # A text, or a statement that was prepared from one.
            first = next(iter([*arguments, *named.values()]))
            note(first if isinstance(first, str) else first.query)
            return plain(self, *arguments, **named)

        monkeypatch.setattr(Protocol, name, noted)

    for name in ("query", "bind_execute", "bind_execute_many"):
        patch(name)
    return seen


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch, statements: list[str]) -> list[list[str]]:
    """For each generation what had been sent when the engine was told to begin."""
    told: list[list[str]] = []
    submit = ScriptedCore.submit

    def begin(self: ScriptedCore, request: GenerationRequest) -> None:
        told.append(list(statements))
        submit(self, request)

    monkeypatch.setattr(ScriptedCore, "submit", begin)
    return told


@pytest.mark.parametrize("keyed", [False, True])
async def test_few_statements_come_before_the_engine_on_every_route(
    postgres_url: str, tmp_path: Path, statements: list[str], before: list[list[str]], keyed: bool
) -> None:
    async with running_service(postgres_url, tmp_path, lease_seconds=3600) as service:
        names = await _names(service)
        for path, body, most in REQUESTS:
            # The first time, connections are made and statements prepared.
            for _ in range(2):
                made = await service.keys.create(TESTER, service.our_id)
                headers = {"Idempotency-Key": made.row.id} if keyed else {}
                async with client(service.url, made.secret) as caller:
                    statements.clear()
                    before.clear()
                    answer = await caller.post(path, json=_filled(body, names), headers=headers)
                assert answer.status_code in {200, 202}, answer.text
                # What it writes at its end is not the next one's.
                while (await service.ours.get("/chat/get/messages/", params={"status": "running"})).json()["messages"]:
                    pass
            counts = [len(sent) for sent in before]
            # All of them, not fewer: whoever brings a route down says so here.
            assert max(counts) == most + keyed, (path, body, before)


def test_every_route_that_asks_the_model_is_counted() -> None:
    asking = {
        route.path.rstrip("/")
        for controller in _CONTROLLERS
        for route in controller.router.routes
        if isinstance(route, IdempotentRoute)
    }
    assert {path.rstrip("/") for path, _, _ in REQUESTS} == asking


async def _names(service: Service) -> dict[str, str]:
    said = {"items": [{"role": "user", "content": "hello"}]}
    conversation = (await service.ours.post("/v1/conversations", json=said)).json()["id"]
    items = (await service.ours.get(f"/v1/conversations/{conversation}/items")).json()["data"]
    first = (await service.ours.post("/v1/responses", json={"model": "scripted", "input": _SAY})).json()
    return {
        "{conversation}": conversation,
        "{chat}": conversation.removeprefix("conv_"),
        "{response}": first["id"],
        "{item}": items[0]["id"],
    }


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, names) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value
