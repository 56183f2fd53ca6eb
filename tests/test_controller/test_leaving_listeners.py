"""Who listens to a turn and leaves while something else goes on."""

import asyncio
from urllib.parse import urlsplit

import pytest

from services.authentication_service import AuthenticationService
from services.live_turn import LiveTurn
from services.principal import Principal
from tests.service import NEW_MESSAGE, Service, script


async def test_who_leaves_while_the_key_is_looked_up_again_has_left_at_once(
    sqlite_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the turn says something, or when a sign of life is due."""
    asked = {"prompt": script("never", pause=60), "background": True}
    begun = (await sqlite_service.ours.post(NEW_MESSAGE, json=asked)).json()
    authenticate, leave = AuthenticationService.authenticate, LiveTurn.leave
    looked_up, left, go_on, looks = asyncio.Event(), asyncio.Event(), asyncio.Event(), 0

    async def slowly(self: AuthenticationService, key: str | None) -> Principal:
        nonlocal looks
        looks += 1
        if looks == 2:
            looked_up.set()
            await go_on.wait()
        return await authenticate(self, key)

    def noted(self: LiveTurn) -> None:
        left.set()
        leave(self)

    monkeypatch.setattr("app.controller.sse._CHECK_SECONDS", 0.0)
    monkeypatch.setattr(AuthenticationService, "authenticate", slowly)
    monkeypatch.setattr(LiveTurn, "leave", noted)
    async with asyncio.timeout(60):
        address = urlsplit(sqlite_service.url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        key = sqlite_service.ours.headers["Authorization"]
        path = f"/chat/stream/{begun['message_id']}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nAuthorization: {key}\r\n\r\n".encode())
        await looked_up.wait()
        writer.transport.abort()
        # What comes later on another connection is read later.
        await sqlite_service.nobody.get("/healthz")
        monkeypatch.setattr("app.controller.sse._CHECK_SECONDS", 3600.0)
        assert not left.is_set()
        go_on.set()
        await left.wait()
    assert (await sqlite_service.ours.delete(path)).json()["status"] == "cancelled"
