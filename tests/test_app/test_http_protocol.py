"""Clients that speak HTTP in another way than most: they offer another protocol, know an old one, do not wait."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.controller.chat_events import ChatEvents
from database.identifier import new_id
from services.turn_end import TurnEvent
from tests.event_stream import events
from tests.openai_clients import key_of
from tests.process import KEY, environment, started_service
from tests.service import NEW_MESSAGE, Service, running_service, script

# As the JDK's client sends it.
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
LENGTH = b"content-length: "


def request(service: Service, say: str, offer: bytes = OFFER, *, chunked: bool = False) -> bytes:
    body = json.dumps({"prompt": script(say)}).encode()
    head = f"POST {NEW_MESSAGE} HTTP/1.1\r\nHost: here\r\nx-api-key: {key_of(service)}\r\n".encode() + offer
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def answer(reader: asyncio.StreamReader) -> str:
    """The next answer of this connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200"), head
    length = int(head.partition(LENGTH)[2].partition(b"\r\n")[0])
    return str(json.loads(await reader.readexactly(length))["response"])


def streaming(service: Service, say: str, version: str = "1.1", more: str = "", **fields: Any) -> bytes:
    body = json.dumps({"prompt": script(say, **fields), "stream": True})
    head = f"POST {NEW_MESSAGE} HTTP/{version}\r\nHost: here\r\nx-api-key: {key_of(service)}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def ended(service: Service, prompt: str) -> str:
    """The state of the turn with this prompt, once it has ended."""
    while True:
        (entry,) = (await service.ours.get("/chat/get/messages/", params={"q": prompt})).json()["messages"]
        if entry["status"] != "running":
            return str(entry["status"])


async def head(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\r\n\r\n")).lower()


async def chunks(reader: asyncio.StreamReader) -> str:
    """A body in chunks, up to its end."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body.decode()


def text(body: str) -> str:
    """What the events say, up to the last of them."""
    *said, last = [event.data for event in events(body)]
    assert (last["text"], last["finish_reason"]) == ("", "stop")
    return "".join(event["text"] for event in said)


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answered(service: Service, sent: bytes) -> bytes:
    """All that comes until the service closes the connection."""
    async with connected(service) as (reader, writer):
        writer.write(sent)
        return await reader.read()


@pytest.fixture(scope="module")
async def service(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    directory = tmp_path_factory.mktemp("protocol")
    shutil.copy(migrated_sqlite, directory / "chatglm.db")
    async with running_service(f"sqlite:///{directory / 'chatglm.db'}", directory) as service:
        yield service


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 100, 100_000])
async def test_the_body_arrives_however_it_is_cut(service: Service, piece: int, chunked: bool) -> None:
    async with connected(service) as (reader, writer):
        sent = request(service, "hello", chunked=chunked)
        for at in range(0, len(sent), piece):
            writer.write(sent[at : at + piece])
            await writer.drain()
        assert await answer(reader) == "hello"


async def test_a_connection_goes_on_with_and_without_an_offer(service: Service) -> None:
    async with connected(service) as (reader, writer):
        for at, offer in enumerate((OFFER, b"", OFFER, OFFER, b"Connection: keep-alive\r\n")):
            writer.write(request(service, f"answer {at}", offer))
            assert await answer(reader) == f"answer {at}"
        writer.write(b"".join(request(service, f"at once {at}", OFFER) for at in range(3)))
        assert [await answer(reader) for _ in range(3)] == [f"at once {at}" for at in range(3)]


async def test_what_else_the_head_says_of_the_connection_holds(service: Service) -> None:
    async with connected(service) as (reader, writer):
        writer.write(request(service, "bye", OFFER.replace(b"Upgrade, ", b"close, Upgrade, ", 1)))
        assert await answer(reader) == "bye"
        assert await reader.read() == b""


async def test_a_web_socket_is_declined_likewise(service: Service) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert (await service.nobody.get("/healthz", headers=headers)).json() == {"status": "ok"}


@pytest.mark.parametrize("sent", [b"CONNECT other:80 HTTP/1.1\r\nHost: other:80\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_what_is_no_request_to_this_service_is_refused(service: Service, sent: bytes) -> None:
    assert (await answered(service, sent)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("more", ["", "Connection: keep-alive\r\n"])
async def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_the_connection(service: Service, more: str) -> None:
    async with connected(service) as (reader, writer):
        writer.write(streaming(service, "one after another", "1.0", more, rate=1000))
        begun = await head(reader)
        assert begun.startswith(b"http/1.1 200")
        assert b"\r\nconnection: close\r\n" in begun
        assert b"transfer-encoding" not in begun
        body = await reader.read()
    # Nothing but lines of events, which the sizes of chunks would not be.
    assert {line[:6] for line in body.decode().split("\n")} == {"data: ", ""}
    assert text(body.decode()) == "one after another"


async def test_an_answer_of_known_length_is_the_same_to_http_1_0(service: Service) -> None:
    async with connected(service) as (reader, writer):
        writer.write(request(service, "hello", b"").replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert await answer(reader) == "hello"
        assert await reader.read() == b""


@pytest.mark.parametrize("more", ["", "Idempotency-Key: a-key\r\n"])
async def test_a_stream_to_http_1_0_that_fails_within_is_cut_and_not_ended(
    service: Service, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    def fail(_events: ChatEvents, _event: TurnEvent) -> bytes:
        raise RuntimeError("a defect")

    monkeypatch.setattr(ChatEvents, "__call__", fail)
    with pytest.raises(ConnectionResetError):
        await answered(service, streaming(service, "hello", "1.0", more))


async def test_a_stream_to_who_wants_no_more_is_whole_and_then_closed(service: Service) -> None:
    async with connected(service) as (reader, writer):
        writer.write(streaming(service, "bye", "1.1", "Connection: close\r\n", rate=1000))
        begun = await head(reader)
        assert b"\r\nconnection: close\r\n" in begun
        assert b"\r\ntransfer-encoding: chunked\r\n" in begun
        assert text(await chunks(reader)) == "bye"
        assert await reader.read() == b""


async def test_requests_that_wait_behind_a_stream_are_answered_after_it_in_order(service: Service) -> None:
    async with connected(service) as (reader, writer):
        # One at once behind it, and two that come while it streams.
        writer.write(streaming(service, "0" * 300, rate=1000) + request(service, "first", b""))
        await head(reader)
        writer.write(streaming(service, "second", rate=1000) + request(service, "third", OFFER))
        assert text(await chunks(reader)) == "0" * 300
        assert await answer(reader) == "first"
        await head(reader)
        assert text(await chunks(reader)) == "second"
        assert await answer(reader) == "third"


async def test_who_leaves_with_a_request_behind_a_stream_has_left(service: Service) -> None:
    async with connected(service) as (reader, writer):
        writer.write(streaming(service, "leaving", repeat=1000, rate=50) + request(service, "never answered", b""))
        await head(reader)
        assert b"data: " in await reader.readuntil(b"\n\n")
    assert await ended(service, "leaving") == "cancelled"


@pytest.mark.parametrize("streams", [True, False])
async def test_who_leaves_after_a_large_body_has_left(
    service: Service, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose last piece, for which somebody waits, is more than the server reads ahead."""
    monkeypatch.setattr("uvicorn.protocols.http.httptools_impl.HIGH_WATER_LIMIT", 1000)
    prompt = script(f"leaving {streams}", repeat=1000, rate=50)
    body = json.dumps({"prompt": prompt, "stream": streams}).encode() + b" " * 2000
    asked = f"POST {NEW_MESSAGE} HTTP/1.1\r\nHost: here\r\nx-api-key: {key_of(service)}\r\nExpect: 100-continue\r\n"
    async with connected(service) as (reader, writer):
        writer.write(f"{asked}Content-Length: {len(body)}\r\n\r\n".encode())
        assert (await head(reader)).startswith(b"http/1.1 100")
        writer.write(body)
        while not (await service.ours.get("/chat/get/messages/", params={"q": prompt})).json()["messages"]:
            pass
    assert await ended(service, prompt) == "cancelled"


async def test_what_asks_for_the_head_alone_gets_no_body_and_the_connection_goes_on(service: Service) -> None:
    async with connected(service) as (reader, writer):
        for path in (NEW_MESSAGE, f"/chat/stream/{new_id()}", "/v1/responses", "/healthz"):
            writer.write(f"HEAD {path} HTTP/1.1\r\nHost: here\r\nx-api-key: {key_of(service)}\r\n\r\n".encode())
            assert (await head(reader)).startswith(b"http/1.1 405")
        writer.write(request(service, "still here", b""))
        assert await answer(reader) == "still here"


def test_the_service_speaks_so_as_it_is_started(tmp_path: Path) -> None:
    with started_service(environment(tmp_path, bootstrap_api_key=KEY), tmp_path / "log") as service:
        headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAA"}
        response = service.client.post(NEW_MESSAGE, json={"prompt": script("hello")}, headers=headers)
        assert response.json()["response"] == "hello"
