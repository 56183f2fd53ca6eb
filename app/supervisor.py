"""The service's processes, the engine's and the API's: each is restarted when it dies, neither by the other's death."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.child_process import ChildProcess
from app.instance import Instance
from app.settings import Settings
from services.inference.pulse import engine_hangs

# Besides the time that running answers may take.
_KILL_AFTER = 20.0
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
        self._api: ChildProcess | None = None

    async def run(self, prepare: Callable[[], Awaitable[None]]) -> int:
        """Start, supervise, stop: the API first, so that running answers still have their engine.

        Args:
            prepare: what must be done before the API starts. The engine, which takes longest, loads meanwhile.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        keepers = []
        with self._engine_socket() as path:
            engine = ChildProcess(
                "engine", self._engine_command(path), hangs=lambda: engine_hangs(path, self._settings.engine_silence)
            )
            try:
                if self._settings.engine_socket is None:
                    keepers.append(asyncio.create_task(self._keep(engine)))
                await prepare()
                inherited = (self._listener.fileno(), self._instance.lock)
                self._api = ChildProcess("api", self._api_command(path), pass_fds=inherited)
                keepers.append(asyncio.create_task(self._keep(self._api)))
                await self._stopping.wait()
            finally:
                self._stopping.set()
                # Or callers would queue here once the API accepts no more.
                self._listener.close()
                if self._api is not None:
                    await self._api.stop(self._settings.shutdown_seconds + _KILL_AFTER)
                await engine.stop(_KILL_AFTER)
                await asyncio.gather(*keepers)
        return self._status

    def _told_to_stop(self) -> None:
        if self._stopping.is_set() and self._api is not None:
            self._api.hurry(_KILL_AFTER)
        self._stopping.set()

    async def _keep(self, child: ChildProcess) -> None:
        if not await child.keep():
            self._status = 1
            self._stopping.set()

    @contextmanager
    def _engine_socket(self) -> Iterator[Path]:
        beside = self._settings.engine_socket or (self._settings.data_dir / "engine.sock").resolve()
        if len(os.fsencode(beside)) <= _LONGEST_SOCKET_PATH:
            yield beside
            return
        with tempfile.TemporaryDirectory(prefix="chatglm-") as directory:
            yield Path(directory) / "engine.sock"

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
            "step-seconds": settings.step_seconds,
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
