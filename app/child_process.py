"""One of the service's processes, and what becomes of it: dead, it is started again; hung, it is killed first."""

import asyncio
import logging
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

# A child exits with this (sysexits' EX_CONFIG) when trying again cannot help: no such model, say.
UNUSABLE = 78
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 30.0
_STEADY_SECONDS = 60.0


class ChildProcess:
    """Kept alive until it is stopped.

    Args:
        name: for the log.
        command: starts it.
        pass_fds: file descriptors that it inherits.
        hangs: called for each life of it; returns when it is no longer of use and must be killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        hangs: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._name = name
        self._command = command
        self._pass_fds = pass_fds
        self._hangs = hangs
        self._stopping = asyncio.Event()
        self._process: Process | None = None

    async def keep(self) -> bool:
        """Run it until it is stopped, again whenever it ends; False when it says that trying again cannot help."""
        clock = asyncio.get_running_loop().time
        backoff = _FIRST_BACKOFF
        while not self._stopping.is_set():
            started = clock()
            status = await self._run()
            if self._stopping.is_set():
                break
            if status == UNUSABLE:
                return False
            if clock() - started > _STEADY_SECONDS:
                backoff = _FIRST_BACKOFF
            log.error("the %s stopped with status %s; it is started again in %.1f s", self._name, status, backoff)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)
        return True

    async def stop(self, seconds: float) -> None:
        """Ask it to end, and wait; it is killed if it has not ended after so many seconds."""
        self._stopping.set()
        if self._process is None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            log.error("the %s does not stop; it is killed", self._name)
            self._process.kill()

    def hurry(self, seconds: float) -> None:
        """Ask once more while it is being stopped, and wait so many seconds at the most."""
        if self._process is not None:
            self._process.terminate()
            asyncio.get_running_loop().call_later(seconds, self._kill, self._process)

    def _kill(self, process: Process) -> None:
        if process.returncode is None:
            log.error("the %s does not hurry; it is killed", self._name)
            process.kill()

    async def _run(self) -> int | None:
        """Run it to its end; its exit status, or None if it could not even be started."""
        try:
            # A Ctrl-C is for the supervisor, which stops its children in order: hence a session of their own.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, pass_fds=self._pass_fds, start_new_session=True
            )
        except OSError:
            log.exception("the %s could not be started", self._name)
            return None
        self._process = process
        if self._stopping.is_set():
            # Told to stop while the process was being made, when nobody could tell it.
            process.terminate()
        watching = None if self._hangs is None else asyncio.create_task(self._kill_hung(process, self._hangs))
        status = await process.wait()
        self._process = None
        if watching is not None:
            watching.cancel()
        return status

    async def _kill_hung(self, process: Process, hangs: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await hangs()
        log.error("the %s shows no sign of life; it is killed", self._name)
        process.kill()
