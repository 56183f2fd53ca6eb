"""The service under test, on a real socket, with the scripted engine on another."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import uvicorn

from app.main import create_app
from app.server_config import server_config
from app.settings import Settings
from database.engine import create_engine
from database.session import Database
from services.inference.engine import EngineCore
from services.inference.engine_server import EngineServer
from services.inference.scripted import ScriptedCore
from services.key_service import KeyService
from services.key_token import Peppers
from services.tenant_service import TenantService
from tests.rows import TESTER

SECRET = b"a secret of the tests, long enough"
NEW_MESSAGE = "/chat/new/message/"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service, callers of two tenants, and an administrator."""

    url: str
    database: Database
    keys: KeyService
    our_id: str
    their_id: str
    ours: httpx2.AsyncClient
    theirs: httpx2.AsyncClient
    admin: httpx2.AsyncClient
    nobody: httpx2.AsyncClient
    engine_server: EngineServer
    core: EngineCore

    def hurry(self) -> None:
        """What the scripted engine has still to say, it says at once: a test ends a turn when it wants to."""
        assert isinstance(self.core, ScriptedCore)
        self.core.hurry()


def client(url: str, key: str) -> httpx2.AsyncClient:
    """A caller with this key."""
    return httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def script(say: str = "", **fields: Any) -> str:
    """A prompt that the scripted engine answers so."""
    return json.dumps({"say": say, **fields}, ensure_ascii=False)


async def exchange(service: Service, sent: bytes) -> bytes:
    """What comes back for these bytes, on a connection of their own, until it is closed."""
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(sent)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received


async def events_of(response: httpx2.Response) -> list[dict[str, Any]]:
    """The JSON of a response's events."""
    return [
        json.loads(line.removeprefix("data: ")) async for line in response.aiter_lines() if line.startswith("data: ")
    ]


async def stream(client: httpx2.AsyncClient, prompt: str, **body: Any) -> list[dict[str, Any]]:
    """All events of a streamed answer."""
    async with client.stream("POST", NEW_MESSAGE, json={"prompt": prompt, "stream": True, **body}) as response:
        assert response.status_code == 200, await response.aread()
        return await events_of(response)


def text_of(events: list[dict[str, Any]]) -> str:
    """What a client that concatenates has at the end."""
    return "".join(event["text"] for event in events)


def scripted(max_running: int = 64) -> ScriptedCore:
    """The scripted engine, as fast as it can."""
    return ScriptedCore(rate=100_000, max_running=max_running)


@asynccontextmanager
async def running_engine(
    path: Path, *, max_queued: int = 16, core: EngineCore | None = None
) -> AsyncIterator[EngineServer]:
    """An engine on a socket; by default the scripted one."""
    server = EngineServer(max_queued=max_queued)
    await server.listen(path)
    server.serve(core or scripted())
    yield server
    await server.close()


class _Server(uvicorn.Server):
    """Ends when it is told to. uvicorn's own looks whether it shall ten times a second, and then waits a tenth more."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        async with asyncio.timeout(60):
            await self._wait_tasks_to_complete()
        await self.lifespan.shutdown()


@asynccontextmanager
async def running_app(settings: Settings, engine_socket: Path, instance: str = "0" * 32) -> AsyncIterator[str]:
    """The application on a free port of the loopback; its URL."""
    app = create_app(settings, secret=SECRET, engine_socket=engine_socket, instance=instance)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = server_config(app, settings, app.state.http_metrics)
        config.loop, config.timeout_graceful_shutdown = "asyncio", 5
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            while (await client.get("/readyz")).status_code != 200:
                pass
        yield url
        server.told.set()
        await serving


@asynccontextmanager
async def running_service(
    database_url: str,
    directory: Path,
    *,
    max_running: int = 64,
    max_queued: int = 16,
    core: EngineCore | None = None,
    **fields: Any,
) -> AsyncIterator[Service]:
    """Everything together, with two tenants."""
    engine_socket = directory / "engine.sock"
    # On a busy machine a connection has taken more than ten seconds.
    fields = {"database_seconds": 60, **fields}
    settings = Settings(database_url=database_url, secret=SECRET.decode(), data_dir=directory, **fields)
    database = Database(create_engine(database_url, pool_size=2, timeout=60))
    keys, tenants = KeyService(database, Peppers(SECRET)), TenantService(database)
    owners = [await tenants.create(TESTER, name) for name in ("ours", "theirs")]
    owners.append(await tenants.administrators(TESTER))
    made = [await keys.create(TESTER, owner.id) for owner in owners]
    core = core or scripted(max_running)
    async with (
        running_engine(engine_socket, max_queued=max_queued, core=core) as engine,
        running_app(settings, engine_socket) as url,
        client(url, made[0].secret) as ours,
        client(url, made[1].secret) as theirs,
        client(url, made[2].secret) as admin,
        httpx2.AsyncClient(base_url=url, timeout=60) as nobody,
    ):
        yield Service(
            url=url,
            database=database,
            keys=keys,
            our_id=owners[0].id,
            their_id=owners[1].id,
            ours=ours,
            theirs=theirs,
            admin=admin,
            nobody=nobody,
            engine_server=engine,
            core=core,
        )
    await database.close()
