"""A client that does not read, on every route that streams: it costs little, holds nobody up, and misses nothing."""

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.routing import APIRoute

from app.http_protocol import HttpProtocol
from app.main import _CONTROLLERS
from tests.openai_clients import MODEL, key_of
from tests.service import NEW_MESSAGE, Service, script, stream, text_of
from tests.test_controller.test_routes import application

EVENT_STREAM = "text/event-stream"
# Two bytes of JSON each, so that there is enough to be left unread in however few pieces it comes.
TEN = '"\\\n\t"\n\\\t\n"'
TEXT = TEN * 600
# Pieces that differ, so that none can take another's place.
SCRIPT = {"repeat": 600, "step": 7, "rate": 10_000}
MOST = {"max_tokens": 7000}
# What is written while nobody reads: the server waits from here on, and the kernel takes as little as it can.
HIGH_WATER = 1024
KERNEL = 2304
# What each route is asked for. A new one fails below until it is here.
SAYING, LATER = script(TEN, **SCRIPT), script(TEN, **SCRIPT, pause=1)
ASKED: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", NEW_MESSAGE): {"prompt": SAYING, **MOST},
    ("POST", "/v1/chat/completions"): {"model": MODEL, "messages": [{"role": "user", "content": SAYING}], **MOST},
    ("POST", "/v1/completions"): {"model": MODEL, "prompt": SAYING, **MOST},
    ("POST", "/v1/responses"): {"model": MODEL, "input": SAYING, "max_output_tokens": 7000},
    ("GET", "/chat/stream/{message_id}"): {},
    ("GET", "/v1/responses/{response_id}"): {},
}


class Unread:
    """The server's side of connections, from the first that nobody reads on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paused: asyncio.Queue[HttpProtocol] = asyncio.Queue()
        begin, pause = HttpProtocol.connection_made, HttpProtocol.pause_writing

        def connection_made(protocol: HttpProtocol, transport: asyncio.Transport) -> None:
            begin(protocol, transport)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
            transport.set_write_buffer_limits(HIGH_WATER)

        def pause_writing(protocol: HttpProtocol) -> None:
            pause(protocol)
            self.paused.put_nowait(protocol)

        monkeypatch.setattr(HttpProtocol, "connection_made", connection_made)
        monkeypatch.setattr(HttpProtocol, "pause_writing", pause_writing)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Unread:
    return Unread(monkeypatch)


def streaming_routes() -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, operations in application().openapi()["paths"].items()
        for method, operation in operations.items()
        if EVENT_STREAM in operation["responses"].get("200", {}).get("content", {})
    }


def test_a_route_that_streams_says_so() -> None:
    streaming = {
        (method, route.path_format)
        for controller in _CONTROLLERS
        for route in controller.router.routes
        if isinstance(route, APIRoute) and route.include_in_schema and "EventStream" in route.endpoint.__code__.co_names
        for method in route.methods or ()
    }
    assert streaming == streaming_routes() == set(ASKED)


async def request_for(service: Service, method: str, path: str) -> bytes:
    """A request for a stream; one that is listened to has been begun before."""
    body = b""
    if method == "POST":
        body = json.dumps(ASKED[method, path] | {"stream": True}).encode()
    elif "message_id" in path:
        asked = {"prompt": LATER, "background": True, **MOST}
        path = path.format(message_id=(await service.ours.post(NEW_MESSAGE, json=asked)).json()["message_id"])
    else:
        asked = {"model": MODEL, "input": LATER, "background": True, "max_output_tokens": 7000}
        begun = await service.ours.post("/v1/responses", json=asked)
        path = path.format(response_id=begun.json()["id"]) + "?stream=true"
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nx-api-key: {key_of(service)}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def not_reading(service: Service) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
    client.connect((urlsplit(service.url).hostname, urlsplit(service.url).port))
    client.settimeout(0)
    return client


async def read_all(client: socket.socket) -> list[bytes]:
    """The events of a stream, out of their chunks."""
    loop, answer = asyncio.get_running_loop(), b""
    while piece := await loop.sock_recv(client, 65_536):
        answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    body, size = b"", -1
    while size:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        body += rest[:size]
        assert rest[size : size + 2] == b"\r\n"
        rest = rest[size + 2 :]
    assert rest == b""
    *events, nothing = body.split(b"\n\n")
    assert nothing == b""
    return events


def datas(events: list[bytes]) -> list[str]:
    lines = [line for event in events for line in event.decode().split("\n")]
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def said(data: str) -> str:
    """The text of an event, whatever its route calls it."""
    event = json.loads(data)
    if choices := event.get("choices"):
        return choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    return "" if "type" in event else str(event.get("text", ""))


def ends_well(data: str) -> bool:
    event = {} if data == "[DONE]" else json.loads(data)
    return data == "[DONE]" or event.get("finish_reason") == "stop" or event.get("type") == "response.completed"


async def test_who_does_not_read_costs_little_holds_nobody_up_and_misses_nothing(
    unread: Unread, sqlite_service: Service
) -> None:
    for method, path in sorted(streaming_routes()):
        with not_reading(sqlite_service) as client:
            sent = await request_for(sqlite_service, method, path)
            await asyncio.get_running_loop().sock_sendall(client, sent)
            async with asyncio.timeout(60):
                connection = await unread.paused.get()
                assert connection.client == client.getsockname()
                assert text_of(await stream(sqlite_service.ours, script("quick", rate=100))) == "quick"
                while (await sqlite_service.ours.get("/chat/get/messages/?status=running")).json()["messages"]:
                    pass
                kept = connection.transport.get_write_buffer_size()
                events = await read_all(client)
        told = datas(events)
        assert kept <= HIGH_WATER + max(map(len, events)) + 100, path
        assert sum(map(len, events)) > 2 * len(TEXT)
        assert ends_well(told[-1]), path
        assert "".join(said(data) for data in told if data != "[DONE]") == TEXT, path
        while not unread.paused.empty():
            unread.paused.get_nowait()
