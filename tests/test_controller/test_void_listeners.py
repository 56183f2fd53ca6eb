"""Who listens to a turn when the key is revoked or the tenant suspended."""

import asyncio
import json

import pytest

from app.controller.sse import _CHECK_SECONDS
from services.authentication_service import REMEMBERED_SECONDS
from services.tenant_service import TenantService
from tests.event_stream import events, text
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, script
from tests.test_controller.test_chat_stream_controller import SAID, begin, listen


async def test_a_token_is_void_with_its_key_and_its_tenant(service: Service) -> None:
    made = await service.keys.create(TESTER, service.our_id)
    headers = {"Authorization": f"Bearer {made.secret}"}
    asked = await service.nobody.post(NEW_MESSAGE, json={"prompt": "hi", "background": True}, headers=headers)
    ours, theirs = asked.json(), await begin(service)
    assert text(await listen(service, ours)) == "You said: hi"
    await service.keys.revoke(TESTER, service.our_id, made.row.id)
    assert (await service.nobody.get(ours["stream_url"])).status_code == 401
    assert text(await listen(service, theirs)) == SAID
    await TenantService(service.database).suspend(TESTER, service.our_id)
    suspended = await service.nobody.get(theirs["stream_url"])
    assert (suspended.status_code, suspended.json()["error"]["code"]) == (403, "tenant_suspended")
    assert (await service.nobody.get(ours["stream_url"])).status_code == 401


@pytest.mark.parametrize("path", ["/chat/stream/{id}?token", "/chat/stream/{id}", "/v1/responses/{id}?stream=true"])
async def test_who_listens_to_silence_when_the_tenant_is_suspended_is_told_within_five_seconds(
    service: Service, path: str
) -> None:
    """By the stream's token, by the key, and on `/v1`; nothing is said that would wake the listener."""
    assert _CHECK_SECONDS + REMEMBERED_SECONDS < 5
    body = {"model": "scripted", "input": script("never", pause=3600), "background": True}
    response_id = (await service.ours.post("/v1/responses", json=body)).json()["id"]
    begun = await begin(service, script("never", pause=3600))
    url = path.format(id=response_id if path.startswith("/v1") else begun["message_id"])
    caller, url = (service.nobody, begun["stream_url"]) if path.endswith("token") else (service.ours, url)
    async with caller.stream("GET", url) as response, asyncio.timeout(60):
        assert response.status_code == 200
        await TenantService(service.database).suspend(TESTER, service.our_id)
        heard = [line async for line in response.aiter_lines() if line.startswith("data: ")]
    assert json.loads(heard[-1].removeprefix("data: "))["error"]["code"] == "tenant_suspended"
    await TenantService(service.database).resume(TESTER, service.our_id)
    async with asyncio.timeout(60):
        while (await service.ours.delete(f"/chat/stream/{begun['message_id']}")).status_code == 403:
            pass
    assert (await service.ours.post(f"/v1/responses/{response_id}/cancel")).json()["status"] == "cancelled"


async def test_who_listens_when_the_key_is_revoked_is_told_and_hears_no_more(
    sqlite_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.controller.sse._CHECK_SECONDS", 0.05)
    made = await sqlite_service.keys.create(TESTER, sqlite_service.our_id)
    headers = {"Authorization": f"Bearer {made.secret}"}
    body = {"prompt": script("word ", repeat=200, rate=50), "background": True}
    begun = (await sqlite_service.nobody.post(NEW_MESSAGE, json=body, headers=headers)).json()
    async with sqlite_service.nobody.stream("GET", begun["stream_url"]) as response:
        lines = response.aiter_lines()
        await anext(lines)
        await sqlite_service.keys.revoke(TESTER, sqlite_service.our_id, made.row.id)
        heard = events("\n".join([line async for line in lines]) + "\n")
    # Without an id: the browser asks again, and hears 401.
    assert (heard[-1].id, heard[-1].data["error"]["code"]) == (None, "invalid_api_key")
    assert len(text(heard)) < 200
    await sqlite_service.ours.delete(f"/chat/stream/{begun['message_id']}")


async def test_who_listens_to_silence_is_asked_for_its_key_and_told_that_the_stream_lives(
    sqlite_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.controller.sse._CHECK_SECONDS", 0.02)
    monkeypatch.setattr("app.controller.sse.KEEP_ALIVE_SECONDS", 0.1)
    begun = await begin(sqlite_service, script("late", pause=3600))
    async with sqlite_service.nobody.stream("GET", begun["stream_url"]) as response:
        lines = response.aiter_lines()
        for _ in range(3):
            while await anext(lines) != ": keep-alive":
                pass
        sqlite_service.hurry()
        assert text(events("\n".join([line async for line in lines]) + "\n")) == "late"
