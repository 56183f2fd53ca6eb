"""The service's processes, the engine's and the API's: each is restarted when it dies, neither by the other's death."""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from app.instance import Instance
from app.settings import Settings

log = logging.getLogger(__name__)

# The engine exits with this (sysexits' EX_CONFIG) when trying again cannot help: no such model, say.
UNUSABLE = 78
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 30.0
_STEADY_SECONDS = 60.0
_KILL_AFTER = 10.0
# What the kernel takes, in bytes.
_LONGEST_SOCKET_PATH = 107


class Supervisor:
    """Runs the children until SIGTERM or SIGINT; `run` returns the exit status."""

    def __init__(self, settings: Settings, listener: socket.socket, instance: Instance) -> None:
        self._settings = settings
        self._listener = listener
        self._instance = instance
        self._stopping = asyncio.Event()
        self._status = 0
        self._children: dict[str, Process] = {}

    async def run(self, prepare: Callable[[], Awaitable[None]]) -> int:
        """Start, supervise, stop: the API first, so that running answers still have their engine.

        Args:
            prepare: what must be done before the API starts. The engine, which takes longest, loads meanwhile.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        keepers = []
        with self._engine_socket() as path:
            try:
                if self._settings.engine_socket is None:
                    keepers.append(asyncio.create_task(self._keep("engine", self._engine_command(path))))
                await prepare()
                keepers.append(asyncio.create_task(self._keep("api", self._api_command(path))))
                await self._stopping.wait()
            finally:
                self._stopping.set()
                for name in ("api", "engine"):
                    await self._stop(name)
                await asyncio.gather(*keepers)
        return self._status

    @contextmanager
    def _engine_socket(self) -> Iterator[Path]:
        beside = self._settings.engine_socket or (self._settings.data_dir / "engine.sock").resolve()
        if len(os.fsencode(beside)) <= _LONGEST_SOCKET_PATH:
            yield beside
            return
        with tempfile.TemporaryDirectory(prefix="chatglm-") as directory:
            yield Path(directory) / "engine.sock"

    async def _keep(self, name: str, command: list[str]) -> None:
        backoff = _FIRST_BACKOFF
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            status = await self._run_child(name, command)
            if self._stopping.is_set():
                return
            if name == "engine" and status == UNUSABLE:
                self._status = 1
                self._stopping.set()
                return
            if asyncio.get_running_loop().time() - started > _STEADY_SECONDS:
                backoff = _FIRST_BACKOFF
            log.error("the %s stopped with status %s; it is started again in %.1f s", name, status, backoff)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    async def _run_child(self, name: str, command: list[str]) -> int | None:
        """Run a child to its end; its exit status, or None if it could not even be started."""
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=PIPE,
                pass_fds=[self._listener.fileno(), self._instance.lock] if name == "api" else [],
                # A Ctrl-C is for the supervisor, which stops the children in order.
                start_new_session=True,
            )
        except OSError:
            log.exception("the %s could not be started", name)
            return None
        self._children[name] = child
        if self._stopping.is_set():
            # Told to stop while the child was being made, when nobody could tell the child.
            child.terminate()
        status = await child.wait()
        del self._children[name]
        return status

    async def _stop(self, name: str) -> None:
        child = self._children.get(name)
        if child is None:
            return
        child.terminate()
        try:
            await asyncio.wait_for(child.wait(), self._settings.shutdown_seconds + _KILL_AFTER)
        except TimeoutError:
            log.error("the %s does not stop; it is killed", name)
            child.kill()

    def _api_command(self, path: Path) -> list[str]:
        arguments = {"fd": self._listener.fileno(), "engine-socket": path, "instance": self._instance.id}
        return [sys.executable, "-m", "app.api", *_options(arguments)]

    def _engine_command(self, path: Path) -> list[str]:
        settings = self._settings
        arguments = {
            "socket": path,
            "engine": settings.engine,
            "max-running": settings.max_running,
            "max-queued": settings.max_queued,
            "max-queued-tokens": settings.max_queued_tokens,
            "model": settings.model,
            "revision": settings.model_revision,
            "cache-dir": settings.cache_dir,
            "device": None if settings.device == "auto" else settings.device,
            "attention": settings.attention,
            "threads": settings.threads,
            "scripted-rate": settings.scripted_rate,
            "log-level": settings.log_level,
            "log-format": settings.log_format,
        }
        return [sys.executable, "-m", "services.inference", *_options(arguments)]


def _options(arguments: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in arguments.items() if value is not None]
