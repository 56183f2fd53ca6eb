"""The engine's server: one core behind a Unix socket, shared by the connections of one or more API processes."""

import asyncio
import logging
from collections import defaultdict
from pathlib import Path

from msgspec import structs

from services.inference.engine import End, EngineCore, Event, Failed
from services.inference.occupancy import Occupancy
from services.inference.places import Places
from services.inference.pulse import BEAT_SECONDS
from services.inference.wire import (
    Abort,
    Admit,
    Admitted,
    Alive,
    Loading,
    Ready,
    Refused,
    Start,
    Step,
    ToClient,
    ToServer,
    WireError,
    frame,
    receive_from_client,
)

_LARGEST_BACKLOG = 64 * 1024 * 1024
_RETRY_AFTER = 1.0
_FULL = "All places of the engine are taken; try again."
# Tokens of a place, where it is not said how many may wait: prompt and answer of a typical request, twice.
_PLACE_TOKENS = 2048

log = logging.getLogger(__name__)


class _Connection:
    """One API process, with the places it holds.

    Attributes:
        admitted: requests that wait for Start.
        started: of the others, by id, how many answers have not ended.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.admitted: dict[str, Admit] = {}
        self.started: dict[str, int] = {}

    def send(self, message: ToClient) -> None:
        if self.writer.transport.get_write_buffer_size() > _LARGEST_BACKLOG:
            log.error("an API process does not read its events; its connection is closed")
            self.writer.transport.abort()
            return
        self.writer.write(frame(message))


class EngineServer:
    """Serves one core, once it is there, to many connections; holds the bound on what is admitted."""

    def __init__(self, *, max_queued: int, max_queued_tokens: int | None = None) -> None:
        """Bounds what is admitted besides what the core runs at once.

        Args:
            max_queued: requests that may wait.
            max_queued_tokens: of what runs and waits together; None for what as many typical requests have.
        """
        self._max_queued = max_queued
        self._max_queued_tokens = max_queued_tokens
        self._places = Places(requests=0, tokens=0)
        self._core: EngineCore | None = None
        self._stage = Loading(0.0, "starting")
        self._connections: set[_Connection] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._owners: dict[str, _Connection] = {}
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._beating: asyncio.Task[None] | None = None

    async def listen(self, path: Path) -> None:
        """Accept connections; the process's umask says who may open the socket."""
        self._server = await asyncio.start_unix_server(self._serve, path)
        self._beating = asyncio.create_task(self._beat())

    async def close(self) -> None:
        """Stop listening, drop the connections, stop the core."""
        if self._server is not None:
            self._server.close()
        if self._beating is not None:
            self._beating.cancel()
        for connection in list(self._connections):
            connection.writer.transport.abort()
        # Torn down by the end of the loop instead, they would end in tracebacks.
        await asyncio.gather(*self._handlers)
        if self._core is not None:
            await asyncio.to_thread(self._core.close)

    def report(self, fraction: float, stage: str) -> None:
        """Tell the connections how far the loading is."""
        self._stage = Loading(fraction, stage)
        for connection in self._connections:
            connection.send(self._stage)

    def serve(self, core: EngineCore) -> None:
        """Begin to answer with this core."""
        self._core = core
        requests = core.limits.max_running + self._max_queued
        tokens = self._max_queued_tokens or max(core.limits.context_window, requests * _PLACE_TOKENS)
        self._places = Places(requests=requests, tokens=tokens)
        core.start(self._emit)
        for connection in self._connections:
            connection.send(self._ready(core))

    def _ready(self, core: EngineCore) -> Ready:
        places, tokens = self._places.most
        return Ready(structs.replace(core.limits, most_places=places, most_tokens=tokens))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            alive = Alive(self._occupancy())
            for connection in self._connections:
                connection.send(alive)

    def _occupancy(self) -> Occupancy | None:
        if self._core is None:
            return None
        admitted = sum(len(connection.admitted) for connection in self._connections)
        core = self._core.occupancy
        return structs.replace(core, waiting=core.waiting + admitted)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        handler = asyncio.current_task()
        assert handler is not None  # noqa: S101 - the streams run this as a task
        self._handlers.add(handler)
        connection.send(self._stage if self._core is None else self._ready(self._core))
        try:
            while True:
                self._handle(connection, await receive_from_client(reader))
        except WireError:
            pass
        finally:
            self._connections.discard(connection)
            self._drop(connection)
            self._handlers.discard(handler)
            writer.close()

    def _handle(self, connection: _Connection, message: ToServer) -> None:
        match message:
            case Admit(request):
                connection.send(self._admit(connection, message) or Admitted(request.id))
            case Start(request_id):
                admit = connection.admitted.pop(request_id, None)
                if admit is not None and self._core is not None:
                    connection.started[request_id] = admit.request.n
                    self._core.submit(admit.request)
            case Abort(request_id):
                self._abort(connection, request_id)

    def _admit(self, connection: _Connection, message: Admit) -> Refused | None:
        request = message.request
        request_id = request.id
        if self._core is None:
            return Refused(request_id, "The model is still being loaded.", _RETRY_AFTER)
        if request_id in self._owners:
            return Refused(request_id, "A request of this id is running.", _RETRY_AFTER)
        tokens = len(request.prompt_ids) + request.n * request.max_tokens
        refused = self._places.take(request_id, request.tenant, tokens, request.max_places)
        if refused is not None:
            why = (
                f"The limit is {request.max_places} places of the engine's queue at once."
                if refused.by_ceiling
                else _FULL
            )
            return Refused(request_id, why, refused.wait, refused.by_ceiling)
        self._owners[request_id] = connection
        connection.admitted[request_id] = message
        return None

    def _abort(self, connection: _Connection, request_id: str) -> None:
        if request_id in connection.started and self._core is not None:
            self._core.abort(request_id)
        elif request_id not in connection.admitted:
            return
        self._free(connection, request_id)

    def _drop(self, connection: _Connection) -> None:
        for request_id in [*connection.admitted, *connection.started]:
            self._abort(connection, request_id)

    def _free(self, connection: _Connection, request_id: str) -> None:
        connection.admitted.pop(request_id, None)
        connection.started.pop(request_id, None)
        del self._owners[request_id]
        self._places.free(request_id)

    def _emit(self, events: list[Event]) -> None:
        self._loop.call_soon_threadsafe(self._deliver, events)

    def _deliver(self, events: list[Event]) -> None:
        steps: dict[_Connection, list[Event]] = defaultdict(list)
        for event in events:
            connection = self._owners.get(event.id)
            if connection is None:
                continue
            steps[connection].append(event)
            if isinstance(event, Failed):
                log.warning("a generation failed: %s: %s", event.kind, event.message, extra={"turn_id": event.id})
                self._free(connection, event.id)
            elif isinstance(event, End):
                connection.started[event.id] -= 1
                if connection.started[event.id] == 0:
                    self._free(connection, event.id)
        for connection, batch in steps.items():
            connection.send(Step(batch))
