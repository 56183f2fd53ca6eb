"""Answers under idempotency keys that repeat what was erased: they are gone with it, whoever made them."""

import asyncio
import zlib
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.controller.idempotent_route import IdempotentRoute
from app.main import _CONTROLLERS
from database.models import IdempotencyKey
from tests.service import NEW_MESSAGE, Service, script
from tests.test_controller.test_idempotency import ANSWERS

_SAID = "an unmistakable confession"
_SLOW = script("at last", pause=3600)
# What a body says to be answered otherwise than whole.
_SHAPES = {"stream", "background"}


async def _ask(service: Service, body: dict[str, Any], path: str = NEW_MESSAGE) -> httpx2.Response:
    answer = await service.ours.post(path, json=body, headers={"Idempotency-Key": "a-key"})
    assert answer.status_code in {200, 202}, answer.text
    return answer


async def _conversation(service: Service) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bob's conversation, in which ann has said something: her answer, and what bob asks then."""
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": "hello", "user": "bob"})).json()
    conversation_id = first["conversation_id"]
    hers = await service.ours.post(
        NEW_MESSAGE, json={"prompt": _SAID, "user": "ann", "conversation_id": conversation_id}
    )
    return hers.json(), {"prompt": "and then?", "user": "bob", "conversation_id": conversation_id}


async def _recorded(service: Service) -> list[str]:
    async with service.database.begin(service.our_id) as session:
        bodies = await session.scalars(select(IdempotencyKey.body))
        return [zlib.decompress(body or b"").decode() for body in bodies]


async def _erase_user(service: Service, _turn_id: str) -> httpx2.Response:
    return await service.ours.delete("/chat/users", params={"user": "ann"})


async def _erase_message(service: Service, turn_id: str) -> httpx2.Response:
    return await service.ours.delete(f"/chat/messages/{turn_id}")


_ERASERS = [_erase_user, _erase_message]


@pytest.mark.parametrize("erase", _ERASERS)
async def test_a_later_answer_that_repeats_what_is_erased_is_not_given_again(service: Service, erase: Any) -> None:
    hers, asked = await _conversation(service)
    assert _SAID in (await _ask(service, asked)).text
    assert _SAID in (await _recorded(service))[0]
    assert (await erase(service, hers["message_id"])).status_code == 200
    assert await _recorded(service) == []
    again = await _ask(service, asked)
    assert "idempotent-replayed" not in again.headers
    assert _SAID not in again.text


@pytest.mark.parametrize("erase", _ERASERS)
async def test_an_answer_on_its_way_that_repeats_what_is_erased_meanwhile_is_not_recorded(
    service: Service, erase: Any
) -> None:
    hers, asked = await _conversation(service)
    slow = asyncio.create_task(_ask(service, asked | {"prompt": _SLOW}))
    running = {"conversation_id": asked["conversation_id"], "status": "running"}
    while not (await service.ours.get("/chat/get/messages/", params=running)).json()["messages"]:
        pass
    assert (await erase(service, hers["message_id"])).status_code == 200
    service.hurry()
    assert _SAID in (await slow).text
    assert await _recorded(service) == []


async def test_an_answer_to_several_prompts_goes_with_any_of_them(service: Service) -> None:
    body = {"model": "scripted", "prompt": ["one", _SAID, "three"], "echo": True, "max_tokens": 3}
    first = await _ask(service, body, "/v1/completions")
    found = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    (hers,) = [entry["message_id"] for entry in found if entry["prompt"] == _SAID]
    assert (await _ask(service, body, "/v1/completions")).content == first.content
    assert (await _erase_message(service, hers)).status_code == 200
    assert await _recorded(service) == []


async def test_an_answer_to_several_prompts_is_not_recorded_when_one_is_erased_meanwhile(service: Service) -> None:
    asking = asyncio.create_task(_ask(service, {"model": "scripted", "prompt": [_SLOW, _SAID]}, "/v1/completions"))
    ended: list[str] = []
    while not ended:
        found = (await service.ours.get("/chat/get/messages/", params={"status": "completed"})).json()["messages"]
        ended = [entry["message_id"] for entry in found]
    assert (await _erase_message(service, ended[0])).status_code == 200
    assert not asking.done()
    service.hurry()
    await asking
    assert await _recorded(service) == []


def test_every_route_that_records_answers_is_asked_for_each_shape_of_them() -> None:
    shapes: set[tuple[str, str | None]] = set()
    for route in (route for controller in _CONTROLLERS for route in controller.router.routes):
        if isinstance(route, IdempotentRoute):
            assert route.body_field is not None
            body_class = route.body_field.field_info.annotation
            assert body_class is not None
            fields: dict[str, Any] = body_class.model_fields
            shapes |= {(route.path.rstrip("/"), shape) for shape in (None, *(fields.keys() & _SHAPES))}
    asked = {(path.rstrip("/"), shape) for path, body in ANSWERS for shape in (*(body.keys() & _SHAPES), None)[:1]}
    assert asked == shapes


@pytest.mark.parametrize(("path", "body"), ANSWERS, ids=lambda value: str(value)[:40])
async def test_every_answer_goes_with_its_user(service: Service, path: str, body: dict[str, Any]) -> None:
    first = await _ask(service, body | {"user": "ann"}, path)
    assert (await _ask(service, body | {"user": "ann"}, path)).headers["idempotent-replayed"] == "true"
    # While a turn of hers runs, there is none.
    while (await _erase_user(service, "")).status_code == 409:
        pass
    assert await _recorded(service) == []
    again = await _ask(service, body | {"user": "ann"}, path)
    assert "idempotent-replayed" not in again.headers
    assert again.content != first.content
