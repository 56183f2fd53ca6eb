"""Connections of those who mean no good, on real sockets: every bound is met with an answer, and the next is served."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.openai_clients import key_of
from tests.service import NEW_MESSAGE, Service, running_service, script

SLOW = {"head_seconds": 0.3, "body_seconds": 0.8, "keep_alive_seconds": 1, "unread_seconds": 0.5}


@pytest.fixture(scope="module")
async def service(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with started(migrated_sqlite, tmp_path_factory.mktemp("hostile")) as service:
        yield service


@pytest.fixture(scope="module")
async def impatient(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service that waits for nobody."""
    async with started(migrated_sqlite, tmp_path_factory.mktemp("impatient"), **SLOW) as service:
        yield service


@asynccontextmanager
async def started(migrated: Path, directory: Path, **settings: Any) -> AsyncIterator[Service]:
    shutil.copy(migrated, directory / "chatglm.db")
    async with running_service(f"sqlite:///{directory / 'chatglm.db'}", directory, **settings) as service:
        yield service
        assert (await service.ours.post(NEW_MESSAGE, json={"prompt": script("fine")})).json()["response"] == "fine"


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def told(service: Service, *pieces: bytes) -> tuple[int, str | None]:
    """Status and code of the last answer to this, after which the connection is closed; 0 for none."""
    async with connected(service) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
        return last(await reader.read())


def last(answers: bytes) -> tuple[int, str | None]:
    if not answers:
        return 0, None
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
    head, _, body = answers[answers.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert b"x-content-type-options: nosniff" in head
    assert re.search(rb"\r\nx-request-id: [0-9a-f]{32}\r\n", head)
    return int(statuses[-1]), json.loads(body)["error"]["code"]


def head(service: Service, *lines: bytes, path: bytes = NEW_MESSAGE.encode()) -> bytes:
    key = b"x-api-key: " + key_of(service).encode()
    return b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"Host: here", key, *lines, b"", b""])


BODY = json.dumps({"prompt": script("hello")}).encode()
CHUNKED = b"Transfer-Encoding: chunked"
LAST_CHUNK = b"0\r\n"
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"


async def test_a_long_url_is_refused(service: Service) -> None:
    assert await told(service, head(service, path=b"/" + b"x" * 20_000)) == (414, "url_too_long")
    assert await told(service, b"GET /" + b"x" * 500_000) == (414, "url_too_long")


@pytest.mark.parametrize(
    "lines",
    [
        [b"x-%d: y" % at for at in range(200)],
        [b"x: " + b"y" * 70_000],
        [b"x" * 70_000 + b": y"],
        [b"x-%d: %b" % (at, b"y" * 1000) for at in range(100)],
        [b"x: " + b"y" * 1_000_000],
    ],
    ids=["many", "long", "long name", "much", "very long"],
)
async def test_large_headers_are_refused(service: Service, lines: list[bytes]) -> None:
    assert await told(service, head(service, *lines)) == (431, "headers_too_large")


async def test_a_length_with_more_zeros_than_python_reads_is_a_length(service: Service) -> None:
    async with connected(service) as (reader, writer):
        writer.write(head(service, b"Content-Length: %05000d" % len(BODY)) + BODY)
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"


async def test_a_header_that_never_ends_is_refused(service: Service) -> None:
    assert await told(service, head(service)[:-2] + b"x: ", *[b"y" * 60_000] * 20) == (431, "headers_too_large")


async def test_a_usual_head_is_not_too_large(service: Service) -> None:
    lines = [b"x-%d: %b" % (at, b"y" * 500) for at in range(100)]
    async with connected(service) as (reader, writer):
        writer.write(head(service, b"Content-Length: %d" % len(BODY), *lines) + BODY)
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", CHUNKED],
        [CHUNKED, b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: +5"],
        [b"Content-Length: -5"],
        [b"Content-Length: 5 5"],
        [b"Content-Length: " + b"9" * 40],
        [CHUNKED, CHUNKED],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: \x0bchunked"],
        [b"Transfer-Encoding : chunked"],
        [b"x: y\r\n folded"],
        [b"Host: there"],
        [b"x: \0"],
    ],
)
async def test_a_request_that_others_may_end_elsewhere_is_refused_and_the_connection_closed(
    service: Service, lines: list[bytes]
) -> None:
    smuggled = b"0\r\n\r\n" + head(service, b"Content-Length: %d" % len(BODY)) + BODY
    assert (await told(service, head(service, *lines) + smuggled))[0] == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: here\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /\xe5\xa5\xbd HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: here\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_not_such_http_is_refused(service: Service, sent: bytes) -> None:
    assert await told(service, sent) == (400, "invalid_request")


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n", b"f" * 20 + b"\r\n", b"5\nhello", b"5\r\nhello, no\r\n"])
async def test_a_broken_chunk_ends_the_connection(service: Service, chunk: bytes) -> None:
    assert await told(service, head(service, CHUNKED) + chunk) == (400, "invalid_request")


async def test_a_body_in_chunks_of_nothing_but_frames_is_refused(service: Service) -> None:
    tiny = b"1\r\n \r\n" * 100_000
    assert await told(service, head(service, CHUNKED), *[tiny] * 15) == (413, "request_too_large")


async def test_an_endless_extension_of_a_chunk_is_refused(service: Service) -> None:
    assert await told(service, head(service, CHUNKED) + b"1;", *[b"x" * 60_000] * 20) == (431, "headers_too_large")


async def test_endless_trailers_are_refused(service: Service) -> None:
    sent = head(service, CHUNKED) + b"%x\r\n%b\r\n" % (len(BODY), BODY) + LAST_CHUNK
    assert await told(service, sent, *[b"x: " + b"y" * 10_000 + b"\r\n"] * 20) == (431, "headers_too_large")
    assert await told(service, sent + b"x: ", *[b"y" * 60_000] * 20) == (431, "headers_too_large")


async def test_a_trailer_cannot_pass_for_a_header(service: Service) -> None:
    trailer = b"x-api-key: " + key_of(service).encode() + b"\r\n\r\n"
    sent = b"POST " + NEW_MESSAGE.encode() + b" HTTP/1.1\r\nHost: here\r\nConnection: close\r\n" + CHUNKED + b"\r\n\r\n"
    sent += b"%x\r\n%b\r\n" % (len(BODY), BODY) + LAST_CHUNK + trailer
    assert await told(service, sent) == (401, "invalid_api_key")


async def test_a_crowd_of_requests_on_one_connection_is_cut_off(service: Service) -> None:
    slow = json.dumps({"prompt": script("long" * 1000, rate=1)}).encode()
    first = head(service, b"Content-Length: %d" % len(slow)) + slow
    assert await told(service, first + ALIVE * 1000) == (0, None)


async def test_who_leaves_is_missed_though_another_request_was_sent(service: Service) -> None:
    slow = json.dumps({"prompt": script("long" * 1000, rate=1)}).encode()
    async with connected(service) as (_, writer):
        writer.write(head(service, b"Content-Length: %d" % len(slow)) + slow + ALIVE)
        while await newest(service) != "running":
            pass
    while (status := await newest(service)) == "running":
        pass
    assert status == "cancelled"


async def newest(service: Service) -> str:
    log = (await service.ours.get("/chat/get/messages/", params={"limit": 1})).json()["messages"]
    return str(log[0]["status"])


async def test_a_compressed_body_is_refused_and_not_taken_for_text(service: Service) -> None:
    for encoding in ("gzip", "br", "deflate", "gzip, identity"):
        response = await service.ours.post(NEW_MESSAGE, content=BODY, headers={"Content-Encoding": encoding})
        assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_encoding")
    plain = await service.ours.post(NEW_MESSAGE, content=BODY, headers={"Content-Encoding": "identity"})
    assert plain.json()["response"] == "hello"


async def test_what_is_refused_says_nothing_of_the_server(service: Service) -> None:
    async with connected(service) as (reader, writer):
        writer.write(b"nonsense\r\n\r\n")
        answer = (await reader.read()).lower()
        assert b"connection: close" in answer
        assert b"uvicorn" not in answer


async def test_a_connection_that_says_nothing_is_closed(impatient: Service) -> None:
    assert await told(impatient) == (0, None)
    assert await told(impatient, b"\r\n\r\n") == (0, None)


async def test_a_head_that_is_not_whole_in_time_is_answered_and_closed(impatient: Service) -> None:
    async with connected(impatient) as (reader, writer):
        answer = asyncio.create_task(reader.read())
        for byte in head(impatient):
            if answer.done():
                break
            writer.write(bytes([byte]))
            await asyncio.wait({answer}, timeout=0.05)
        assert last(await answer) == (408, "request_timeout")


@pytest.mark.parametrize("pause", [0.1, 10])
async def test_a_body_that_is_not_whole_in_time_is_answered_and_closed(impatient: Service, pause: float) -> None:
    """Too slow in all, or silent for too long."""
    async with connected(impatient) as (reader, writer):
        answer = asyncio.create_task(reader.readuntil(b"}}"))
        writer.write(head(impatient, b"Content-Length: 1000"))
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait({answer}, timeout=pause)
        assert last(await answer) == (408, "request_timeout")


async def test_an_idle_connection_is_closed(impatient: Service) -> None:
    async with connected(impatient) as (reader, writer):
        writer.write(ALIVE)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")


async def test_a_reader_that_reads_nothing_is_taken_for_gone(impatient: Service) -> None:
    async with connected(impatient) as (_, writer):
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        # More than the kernel keeps for both ends.
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n" * 16)
        while not writer.is_closing():
            writer.write(b"\r\n")
            await asyncio.sleep(0.05)


async def test_more_connections_than_allowed_are_refused_and_the_others_served(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    async with started(migrated_sqlite, tmp_path, max_connections=4) as service, AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(connected(service))
        assert await told(service) == (503, "too_many_connections")
