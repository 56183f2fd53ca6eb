"""Requests that offer another protocol are answered as if they had not."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

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


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


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
    async with connected(service) as (reader, writer):
        writer.write(sent)
        assert (await reader.read()).startswith(b"HTTP/1.1 400")


def test_the_service_speaks_so_as_it_is_started(tmp_path: Path) -> None:
    with started_service(environment(tmp_path, bootstrap_api_key=KEY), tmp_path / "log") as service:
        headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAA"}
        response = service.client.post(NEW_MESSAGE, json={"prompt": script("hello")}, headers=headers)
        assert response.json()["response"] == "hello"
