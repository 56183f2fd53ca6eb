"""However a stream is hurt, it ends with an error or with its whole answer; never with a clean close and no end."""

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import run_as_superuser
from tests.openai_clients import CHAT, MODEL, asking, key_of
from tests.service import NEW_MESSAGE, Service, script

Event = dict[str, Any]


@dataclass(frozen=True)
class Route:
    """A route that streams: how it is asked, and what its events say."""

    path: str
    asked: Callable[[str], Event]
    text: Callable[[Event], str]
    code: Callable[[Event], str | None]
    good_end: str

    def __str__(self) -> str:
        return self.path


def _choice(event: Event) -> Event:
    return next(iter(event.get("choices", [])), {})


def _error(event: Event) -> str | None:
    code: str | None = event.get("error", {}).get("code")
    return code


def _response_error(event: Event) -> str | None:
    code: str | None = (event["response"]["error"] if event["type"] == "response.failed" else event)["code"]
    return code


ROUTES = [
    Route(
        NEW_MESSAGE,
        lambda prompt: {"prompt": prompt, "stream": True},
        lambda event: event.get("text", ""),
        _error,
        '"finish_reason":"stop"',
    ),
    Route(
        CHAT,
        lambda prompt: asking(prompt, stream=True),
        lambda event: _choice(event).get("delta", {}).get("content") or "",
        _error,
        "[DONE]",
    ),
    Route(
        "/v1/completions",
        lambda prompt: {"model": MODEL, "prompt": prompt, "max_tokens": 200, "stream": True},
        lambda event: _choice(event).get("text", ""),
        _error,
        "[DONE]",
    ),
    Route(
        "/v1/responses",
        lambda prompt: {"model": MODEL, "input": prompt, "stream": True},
        lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
        _response_error,
        "response.completed",
    ),
]
# Long enough for what happens to it on the way.
LONG = script("a" * 150, rate=50)


@pytest.fixture(params=ROUTES, ids=str)
def route(request: pytest.FixtureRequest) -> Route:
    found: Route = request.param
    return found


class Listening:
    """A stream that is being read."""

    def __init__(self, route: Route, lines: AsyncIterator[str]) -> None:
        self.route = route
        self.lines = lines
        self.raw = ""
        self.text = ""
        self.last: Event = {}

    async def read(self, *, until_text: bool = False) -> None:
        """To its end, or to its first text."""
        async for line in self.lines:
            self.raw += line + "\n"
            if line.startswith("data: {"):
                self.last = json.loads(line.removeprefix("data: "))
                self.text += self.route.text(self.last)
            if until_text and self.text:
                return


@asynccontextmanager
async def listening(service: Service, route: Route, prompt: str) -> AsyncIterator[Listening]:
    async with service.ours.stream("POST", route.path, json=route.asked(prompt)) as response:
        assert response.status_code == 200, await response.aread()
        yield Listening(route, response.aiter_lines())


async def entry_of(service: Service) -> Event:
    """The only turn there is."""
    (entry,) = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    found: Event = entry
    return found


async def test_an_engine_that_dies_ends_the_stream_with_an_error(sqlite_service: Service, route: Route) -> None:
    async with listening(sqlite_service, route, LONG) as stream:
        await stream.read(until_text=True)
        await sqlite_service.engine_server.close()
        await stream.read()
    # OpenAI's responses know few codes of errors.
    assert route.code(stream.last) == ("server_error" if route.path == "/v1/responses" else "engine_lost")
    assert route.good_end not in stream.raw
    entry = await entry_of(sqlite_service)
    assert (entry["status"], entry["response"]) == ("failed", stream.text)


async def refuse_ends(database_url: str, postgres_directory: str | None) -> None:
    """Let the database refuse every change of a turn from now on."""
    if postgres_directory is None:
        # In a thread: the service's own transactions, which it waits for, go on in this loop.
        await asyncio.to_thread(_refuse_ends_of_file, database_url.removeprefix("sqlite:///"))
        return
    await run_as_superuser(
        postgres_directory,
        urlsplit(database_url).path.removeprefix("/"),
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the disk is full'; END $$;
        CREATE TRIGGER refused BEFORE UPDATE ON turns FOR EACH ROW EXECUTE FUNCTION refuse()
        """,
    )


def _refuse_ends_of_file(path: str) -> None:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        connection.execute(
            "CREATE TRIGGER refused BEFORE UPDATE ON turns BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )


async def test_an_answer_that_cannot_be_stored_ends_the_stream_with_an_error(
    service: Service, route: Route, database_url: str, request: pytest.FixtureRequest
) -> None:
    is_postgres = database_url.startswith("postgresql")
    directory = request.getfixturevalue("postgres_directory") if is_postgres else None
    async with listening(service, route, script("a" * 40, rate=50)) as stream:
        await stream.read(until_text=True)
        await refuse_ends(database_url, directory)
        await stream.read()
    assert route.code(stream.last) == "service_unavailable"
    assert route.good_end not in stream.raw
    # All was said, and none of it promised: its lease expires, and whoever notices settles it.
    assert (stream.text, (await entry_of(service))["status"]) == ("a" * 40, "running")


async def test_whoever_vanishes_stops_the_answer(sqlite_service: Service, route: Route) -> None:
    async with listening(sqlite_service, route, LONG) as stream:
        await stream.read(until_text=True)
    while (entry := await entry_of(sqlite_service))["status"] == "running":
        pass
    assert entry["status"] == "cancelled"
    assert 0 < len(entry["response"]) < 150


async def test_a_quiet_stream_shows_that_it_lives(
    sqlite_service: Service, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.controller.sse.KEEP_ALIVE_SECONDS", 0.02)
    async with listening(sqlite_service, route, script("hello", pause=0.3)) as stream:
        await stream.read()
    assert stream.raw.count(": keep-alive\n\n") > 2
    assert stream.text == "hello"
    assert route.good_end in stream.raw


async def test_a_slow_reader_gets_everything_in_fewer_pieces_and_holds_nobody_up(sqlite_service: Service) -> None:
    service, answers, length = sqlite_service, 16, 6000
    body = json.dumps(asking(script("x" * 6, repeat=1000), stream=True, n=answers, max_tokens=length + 1)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: here\r\nx-api-key: {key_of(service)}\r\nConnection: close\r\n"
    with socket.create_connection((urlsplit(service.url).hostname, urlsplit(service.url).port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)  # noqa: FBT003 - its only parameter
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        # Nothing is read yet, and the turn ends all the same; others are answered meanwhile.
        while "completed" not in {entry["status"] for entry in await entries(service)}:
            pass
        other = await service.theirs.post(NEW_MESSAGE, json={"prompt": script("quick")})
        assert other.json()["response"] == "quick"
        received = bytearray()
        while piece := await loop.sock_recv(connection, 1 << 20):
            received += piece
    said = dict.fromkeys(range(answers), 0)
    one_token = 0
    for line in received.split(b"\n"):
        if line.startswith(b"data: {"):
            choice = json.loads(line.removeprefix(b"data: "))["choices"][0]
            said[choice["index"]] += len(choice["delta"].get("content") or "")
            one_token = one_token or len(line)
    assert b"data: [DONE]" in received
    assert set(said.values()) == {length}
    # An event for each token would have had to wait somewhere.
    assert len(received) < answers * length * one_token / 2


async def entries(service: Service) -> list[Event]:
    found: list[Event] = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    return found
