"""One connection to the engine's server, as its client has it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from services.inference.pulse import Pulse
from services.inference.wire import Inbox, ToClient, ToServer, WireError, frame

log = logging.getLogger(__name__)


class EngineLink(asyncio.Protocol):
    """Hands each message on in the call that read it: to wake a task for it costs as much as what is then done."""

    def __init__(self, handle: Callable[[ToClient], None], silence: float) -> None:
        """Not connected yet.

        Args:
            handle: called with each message.
            silence: seconds without one after which the connection is given up.
        """
        self._handle = handle
        self._inbox = Inbox.of_client()
        self._pulse = Pulse(silence)
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._end: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def connect(self, path: Path) -> None:
        """Begin. Raises OSError."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, str(path))

    async def lost(self) -> None:
        """Wait until the connection is lost, or the server silent for too long.

        Raises WireError then, or what was raised of a message.
        """
        watching = asyncio.create_task(self._watch())
        try:
            raise await self._end
        finally:
            watching.cancel()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a socket's is one
        """Begin; the server may be ready before `connect` returns."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand on what is whole."""
        self._pulse.beat()
        try:
            for message in self._inbox.push(data):
                self._handle(message)
        except Exception as error:  # noqa: BLE001 - `lost` raises it
            self.close(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for it."""
        self.close(WireError(str(exc)) if exc else None)

    def send(self, message: ToServer) -> None:
        """Write one message, soon. Nothing happens once the connection is lost."""
        if not self._unsent:
            # Not each by itself: every write wakes the server, and what turns have to say they say in crowds.
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(frame(message))

    def _flush(self) -> None:
        frames, self._unsent = self._unsent, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(frames))

    def close(self, reason: Exception | None = None) -> None:
        """Give the connection up."""
        if not self._end.done():
            self._end.set_result(reason or WireError("the connection is lost"))
        if self._transport is not None:
            self._transport.abort()

    async def _watch(self) -> None:
        await self._pulse.stopped()
        log.error("the engine has not said a word for %g s; it counts as lost", self._pulse.longest)
        self.close()
