"""`python -m tests.hurt_engine`: an engine on a socket that hangs or dies in a step, however it is asked to.

The engine is the real one, loop, scheduler and server; only its model is played.
"""

import argparse
import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.inference.engine import EngineLimits
from services.inference.engine_server import EngineServer
from services.inference.native.block_manager import BlockManager
from services.inference.native.core import NativeCore
from services.inference.native.scheduler import Scheduler
from services.inference.native.sequence import Chunk, Drawn
from services.inference.watchdog import Watchdog

# The scripted engine's: bytes, and marks of roles.
_LIMITS = EngineLimits(model="hurt", context_window=4096, vocabulary=261, tokenizer="", max_running=8)
_STEP_SECONDS = 0.005
_LONG = 1000


def hang() -> None:
    """As a device that does not answer."""
    time.sleep(_LONG)


def hang_with_the_lock() -> None:
    """As a library that waits without letting anybody else run."""
    ctypes.PyDLL(None).sleep(_LONG)


def die() -> None:
    """As a process that the kernel kills for its memory."""
    os.kill(os.getpid(), 9)


def refuse() -> None:
    """Not at all."""


_HARMS: dict[str, Callable[[], None]] = {
    "hangs": hang,
    "hangs-with-the-lock": hang_with_the_lock,
    "dies": die,
    "never": refuse,
}


class _Runner:
    lookahead = 0

    def __init__(self, harm: Callable[[], None], *, at: int, together: int) -> None:
        self._harm = harm
        self._left = at
        self._together = together

    def launch(self, chunks: list[Chunk]) -> Callable[[], Drawn]:
        if len(chunks) >= self._together:
            if self._left == 0:
                self._harm()
            self._left -= 1
        time.sleep(_STEP_SECONDS)
        drawn = Drawn([ord("a") for chunk in chunks if chunk.samples])
        return lambda: drawn


async def _serve(socket: Path, core: NativeCore) -> None:
    server = EngineServer(max_queued=8)
    await server.listen(socket)
    server.serve(core)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("harm", choices=sorted(_HARMS))
    parser.add_argument("--at", type=int, default=0, help="in which step, from 0")
    parser.add_argument("--together", type=int, default=1, help="of those that have so many requests")
    parser.add_argument("--step-seconds", type=float, default=60)
    arguments = parser.parse_args()
    core = NativeCore(
        _Runner(_HARMS[arguments.harm], at=arguments.at, together=arguments.together),
        Scheduler(BlockManager(1024, 16), max_running=_LIMITS.max_running, max_step_tokens=256),
        _LIMITS,
        damage=lambda _: "device",
        watchdog=Watchdog(arguments.step_seconds),
    )
    asyncio.run(_serve(arguments.socket, core))


if __name__ == "__main__":
    main()
