"""The service and its database, parts of which are killed, and started again as an operator would."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx2

from tests.conftest import SERVICE
from tests.postgres import PostgresServer
from tests.process import ROOT, ServiceProcess, environment, wait_until_gone
from tests.test_faults.callers import SECRET

_READY_SECONDS = 60.0


class Victim(StrEnum):
    """What `kill -9` is sent to."""

    SERVICE = "the whole service"
    SUPERVISOR = "the supervisor"
    API = "the API"
    ENGINE = "the engine"
    POSTGRES = "PostgreSQL"
    CONNECTION = "a connection of PostgreSQL"
    MACHINE = "the service and PostgreSQL together"


ON_SQLITE = (Victim.SERVICE, Victim.SUPERVISOR, Victim.API, Victim.ENGINE)
ON_POSTGRES = tuple(Victim)


class KillableService:
    """One service on one port; whatever of it was killed runs again after `survive`."""

    def __init__(self, env: dict[str, str], log: Path, postgres: PostgresServer | None) -> None:
        self.url = f"http://127.0.0.1:{env['CHATGLM_PORT']}"
        self._env = env
        self._log = log
        self._postgres = postgres
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        """Returns when it is ready."""
        self._process = self._started()
        await self.wait_until_ready()

    def _started(self) -> subprocess.Popen[str]:
        with self._log.open("a") as output:
            command = [sys.executable, "-m", "app"]
            return subprocess.Popen(command, env=self._env, cwd=ROOT, stdout=output, stderr=output, text=True)

    async def wait_until_ready(self) -> None:
        """Returns when /readyz says 200."""
        async with httpx2.AsyncClient(base_url=self.url) as client, asyncio.timeout(_READY_SECONDS):
            while not await self._is_ready(client):
                await asyncio.sleep(0.05)

    async def _is_ready(self, client: httpx2.AsyncClient) -> bool:
        assert self._running().poll() is None, f"the service has stopped:\n{self._log.read_text()[-4000:]}"
        try:
            return (await client.get("/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    async def survive(self, victim: Victim, chance: random.Random) -> None:
        """`kill -9`, then start again what nobody else does; returns when the service is ready.

        Args:
            victim: what is killed.
            chance: picks where there are several.
        """
        orphans = self.service.children()
        self._kill(victim, chance)
        if self._postgres is not None and victim in {Victim.POSTGRES, Victim.MACHINE}:
            await asyncio.to_thread(self._postgres.start)
        if victim in {Victim.SERVICE, Victim.SUPERVISOR, Victim.MACHINE}:
            # Those that a killed supervisor leaves end their answers first.
            await asyncio.to_thread(wait_until_gone, [self.service.process.pid, *orphans])
            self.service.process.wait()
            await self.start()
        else:
            await self.wait_until_ready()

    def _kill(self, victim: Victim, chance: random.Random) -> None:
        service = self.service
        if victim in {Victim.SERVICE, Victim.MACHINE}:
            service.kill_everything()
        elif victim == Victim.SUPERVISOR:
            service.process.kill()
        elif victim in {Victim.API, Victim.ENGINE}:
            os.kill(service.child("app.api" if victim == Victim.API else "services.inference"), signal.SIGKILL)
        if self._postgres is not None and victim in {Victim.POSTGRES, Victim.MACHINE}:
            self._postgres.kill()
        elif self._postgres is not None and victim == Victim.CONNECTION:
            served = [one for one in self._postgres.processes() if SERVICE in " ".join(one.cmdline())]
            chance.choice(served).kill()

    def stop(self) -> None:
        """End all of it at once."""
        if self._process is not None and self._process.poll() is None:
            self.service.kill_everything()

    @property
    def service(self) -> ServiceProcess:
        """Its processes."""
        return ServiceProcess(self._running(), None, self.url)  # type: ignore[arg-type]  # nobody asks it

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process


@asynccontextmanager
async def started(
    url: str, postgres: PostgresServer | None, directory: Path, **settings: Any
) -> AsyncIterator[KillableService]:
    """The service on this database, with the scripted engine and places for a few; ended at the end."""
    few = {"database_pool": 5, "max_running": 8, "max_queued": 2, "shutdown_seconds": 1, "log_level": "warning"}
    env = environment(directory, database_url=url, secret=SECRET, **few | settings)
    service = KillableService(env, directory / "log", postgres)
    try:
        await service.start()
        yield service
    finally:
        service.stop()
