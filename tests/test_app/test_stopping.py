"""SIGTERM, once and twice, as clients, load balancers and the database meet it: the API's process on its own."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.settings import Settings
from database.engine import create_engine
from database.session import Database
from services.key_service import KeyService
from services.key_token import Peppers
from services.principal import TENANT_SCOPES, Principal
from services.tenant_service import TenantService
from services.turn_log import TurnLog
from tests.event_stream import events
from tests.process import environment
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, SECRET, client, events_of, running_app, running_engine, script
from tests.turns import a_live_turn, an_opening

LONG = script("a" * 5000, rate=100)


@dataclass
class Api:
    """The API's process, and a caller."""

    process: Process
    caller: httpx2.AsyncClient
    key: str
    principal: Principal
    url: str

    async def ready(self) -> None:
        while True:
            try:
                if (await self.caller.get("/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                assert self.process.returncode is None
            await asyncio.sleep(0.05)

    async def stopping(self) -> None:
        """Returns when it says so, to somebody who comes now."""
        async with client(self.url, self.key) as comer:
            while (answer := await comer.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
        assert (answer.status_code, answer.json()["status"]) == (503, "stopping")


@asynccontextmanager
async def api(database_url: str, directory: Path, **settings: Any) -> AsyncIterator[Api]:
    database = Database(create_engine(database_url, pool_size=2))
    tenant = await TenantService(database).create(TESTER, "ours")
    made = await KeyService(database, Peppers(SECRET)).create(TESTER, tenant.id)
    key, principal = made.secret, Principal(tenant_id=tenant.id, key_id=made.row.id, scopes=TENANT_SCOPES)
    await database.close()
    env = environment(directory, database_url=database_url, secret=SECRET.decode(), **settings)
    async with running_engine(directory / "engine.sock"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            arguments = [f"--fd={listener.fileno()}", f"--engine-socket={directory / 'engine.sock'}"]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "app.api", *arguments, f"--instance={'1' * 32}"),
                env=env,
                stdin=PIPE,
                stdout=PIPE,
                stderr=STDOUT,
                pass_fds=[listener.fileno()],
            )
        async with client(url, key) as caller, asyncio.timeout(120):
            try:
                yield Api(process, caller, key, principal, url)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


@dataclass
class Turns:
    """One of each form that is under way; how each ended."""

    whole: asyncio.Task[httpx2.Response]
    streamed: asyncio.Task[list[dict[str, Any]]]
    heard: asyncio.Task[httpx2.Response]

    async def codes(self) -> list[str | None]:
        whole, streamed, heard = (await self.whole).json(), (await self.streamed)[-1], events((await self.heard).text)
        return [each.get("error", {}).get("code") for each in (whole, streamed, heard[-1].data)]


async def begin(api: Api, prompt: str) -> Turns:
    async def stream() -> list[dict[str, Any]]:
        async with api.caller.stream("POST", NEW_MESSAGE, json={"prompt": prompt, "stream": True}) as response:
            return await events_of(response)

    begun = (await api.caller.post(NEW_MESSAGE, json={"prompt": prompt, "background": True})).json()
    turns = Turns(
        asyncio.create_task(api.caller.post(NEW_MESSAGE, json={"prompt": prompt})),
        asyncio.create_task(stream()),
        asyncio.create_task(api.caller.get(begun["stream_url"])),
    )
    while len(await log(api.caller)) < 3:
        await asyncio.sleep(0.05)
    return turns


async def run_elsewhere(database_url: str, principal: Principal) -> str:
    """A turn in the background whose process is another one."""
    database = Database(create_engine(database_url, pool_size=2))
    turn_log = TurnLog(database, owner="2" * 32, lease=timedelta(hours=1))
    turn = a_live_turn(resumable=True)
    await turn_log.open(turn, an_opening(principal))
    await database.close()
    return turn.id


async def log(caller: httpx2.AsyncClient) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await caller.get("/chat/get/messages/")).json()["messages"]
    return entries


async def log_afterwards(api: Api, database_url: str, directory: Path) -> list[dict[str, Any]]:
    """What the next process finds; under another instance, which settles nothing whose lease has not expired."""
    settings = Settings(database_url=database_url, secret=SECRET.decode(), data_dir=directory)
    async with (
        running_engine(directory / "engine.sock"),
        running_app(settings, directory / "engine.sock") as url,
        client(url, api.key) as caller,
    ):
        return await log(caller)


async def test_after_sigterm_turns_end_and_whoever_comes_is_sent_away(sqlite_url: str, tmp_path: Path) -> None:
    async with api(sqlite_url, tmp_path, shutdown_seconds=60) as service:
        await service.ready()
        turns = await begin(service, script("a" * 100, rate=25))
        service.process.send_signal(signal.SIGTERM)
        await service.stopping()
        # On a connection that was there before, and told to go elsewhere.
        refused = await service.caller.post(NEW_MESSAGE, json={"prompt": "hi"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        assert len(await log(service.caller)) == 3
        assert await turns.codes() == [None] * 3
        output, _ = await service.process.communicate()
        assert service.process.returncode == 0, output
        assert b"Traceback" not in output
    entries = await log_afterwards(service, sqlite_url, tmp_path)
    assert [(entry["status"], entry["response"]) for entry in entries] == [("completed", "a" * 100)] * 3


@pytest.mark.parametrize(("grace", "signals"), [(1, [signal.SIGTERM]), (3600, [signal.SIGINT, signal.SIGINT])])
async def test_what_outlasts_the_grace_or_a_second_signal_is_cancelled_and_stored(
    sqlite_url: str, tmp_path: Path, grace: int, signals: list[signal.Signals]
) -> None:
    async with api(sqlite_url, tmp_path, shutdown_seconds=grace) as service:
        await service.ready()
        turns = await begin(service, LONG)
        elsewhere = await run_elsewhere(sqlite_url, service.principal)
        listening = service.caller.build_request("GET", f"/chat/stream/{elsewhere}")
        heard = await service.caller.send(listening, stream=True)
        service.process.send_signal(signals[0])
        # Two at once would be one to the process.
        for each in signals[1:]:
            await service.stopping()
            service.process.send_signal(each)
        assert await turns.codes() == ["shutting_down"] * 3
        (last,) = events((await heard.aread()).decode())
        # Without an id: whoever comes back with that of a last event is told that there is nothing more.
        assert (last.data["error"]["code"], last.id) == ("shutting_down", None)
        output, _ = await service.process.communicate()
        assert service.process.returncode == 0, output
        assert b"Traceback" not in output
    goes_on, *entries = await log_afterwards(service, sqlite_url, tmp_path)
    assert (goes_on["message_id"], goes_on["status"]) == (elsewhere, "running")
    assert len(entries) == 3
    for entry in entries:
        assert entry["status"] == "cancelled"
        assert entry["response"] == "a" * entry["completion_tokens"] != ""


async def test_a_process_that_does_nothing_stops_at_once_and_closes_its_door(sqlite_url: str, tmp_path: Path) -> None:
    async with api(sqlite_url, tmp_path, shutdown_seconds=3600) as service:
        await service.ready()
        os.kill(service.process.pid, signal.SIGTERM)
        assert await service.process.wait() == 0
        with pytest.raises(httpx2.ConnectError):
            await service.caller.get("/readyz")


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    path = tmp_path / "chatglm.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    return f"sqlite:///{path}"
