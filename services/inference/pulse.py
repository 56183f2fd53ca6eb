"""Signs of life of the engine's process, and what their absence is taken for."""

import asyncio
from contextlib import suppress
from pathlib import Path

from services.inference.wire import Ready, WireError, receive_from_server

# The engine's server says something at least so often; who has not heard it for so long takes it for lost.
BEAT_SECONDS = 0.5
LONGEST_SILENCE = 30.0
# Loading runs beside the server, but parts of it let nothing else run: libraries of gigabytes, from a slow disk.
_LOADING_SECONDS = 600.0
_LOOKS = 4
_RECONNECT_SECONDS = 0.2


class Pulse:
    """Tells when there was no sign of life for too long.

    Attributes:
        longest: seconds without one that are not too long yet.
    """

    def __init__(self, seconds: float) -> None:
        self.longest = seconds
        self._interval = seconds / _LOOKS
        self._beaten = False

    def beat(self) -> None:
        """There is one."""
        self._beaten = True

    async def stopped(self) -> None:
        """Return when there was none for too long."""
        missed = 0
        # Looks are counted, not time: who was stopped himself must not take that for the other's death.
        while missed * self._interval < self.longest:
            self._beaten = False
            await asyncio.sleep(self._interval)
            missed = 0 if self._beaten else missed + 1


async def engine_hangs(path: Path, seconds: float) -> None:
    """Return when the engine that was just started on this socket shows no sign of life for so many seconds.

    While it loads, it has ten minutes.
    """
    pulse = Pulse(seconds)
    pulse.longest = max(seconds, _LOADING_SECONDS)
    hearing = asyncio.create_task(_hear(path, pulse, seconds))
    try:
        await pulse.stopped()
    finally:
        hearing.cancel()


async def _hear(path: Path, pulse: Pulse, seconds: float) -> None:
    while True:
        with suppress(OSError, WireError):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                while True:
                    if isinstance(await receive_from_server(reader), Ready):
                        pulse.longest = seconds
                    pulse.beat()
            finally:
                writer.close()
        await asyncio.sleep(_RECONNECT_SECONDS)
