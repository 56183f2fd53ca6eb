"""The engine as the services see it: a client of the engine's server, which may load, die and come back."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from msgspec.structs import replace

from services.inference.circuit_breaker import CircuitBreaker
from services.inference.engine import Delta, End, EngineLimits, Event, Failed, GenerationRequest, Health
from services.inference.engine_link import EngineLink
from services.inference.engine_refusal import CeilingReached, EngineOverloaded, EngineUnavailable
from services.inference.generation_times import GenerationTimes, Stopwatch
from services.inference.occupancy import Occupancy
from services.inference.pulse import LONGEST_SILENCE
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
)

_RECONNECT_SECONDS = 0.2
_RETRY_AFTER = 2.0
_LOST = "engine_lost"
# A server that lives answers within a step of its engine at the most.
_ADMISSION_SECONDS = 10.0

log = logging.getLogger(__name__)


class EngineClient:
    """An `Engine` on the other end of a Unix socket. `run` keeps the connection; everything else uses it.

    Attributes:
        occupancy: what the engine was doing a moment ago; nothing while it is not there.
        losses: how often it was lost while it was ready.
        times: of this process's generations.
    """

    def __init__(self, path: Path, *, silence: float = LONGEST_SILENCE) -> None:
        """`silence`: seconds without a word after which the engine counts as lost."""
        self.occupancy = Occupancy()
        self.losses = 0
        self.times = GenerationTimes()
        self._path = path
        self._silence = silence
        self._link: EngineLink | None = None
        self._limits: EngineLimits | None = None
        self._ready = False
        self._breaker = CircuitBreaker()
        self._detail = "The engine is starting."
        self._places: dict[str, _Place] = {}

    @property
    def limits(self) -> EngineLimits:
        """The limits of the engine that was last ready. Raises EngineUnavailable if none ever was."""
        if self._limits is None:
            raise self._unavailable()
        return self._limits

    @property
    def is_ready(self) -> bool:
        """Whether the engine can answer now."""
        return self._ready

    async def health(self) -> Health:
        """Whether the engine can answer now, and if not, what it does instead."""
        return Health(ready=self._ready, detail=self._detail)

    async def run(self) -> None:
        """Connect, and connect again whenever the connection is lost, until cancelled."""
        while True:
            self._link = EngineLink(self._handle, self._silence)
            try:
                await self._link.connect(self._path)
            except OSError:
                pass
            else:
                try:
                    await self._link.lost()
                except WireError:
                    log.warning("the connection to the engine is lost")
                except Exception:
                    # Without this task nobody would ever be answered again.
                    log.exception("the engine says what this process does not understand")
                finally:
                    self._disconnected()
            await asyncio.sleep(_RECONNECT_SECONDS)

    @asynccontextmanager
    async def admit(self, request: GenerationRequest) -> AsyncIterator["_Place"]:
        """A place in the engine's queue; leaving the context gives it up and aborts what runs.

        Raises EngineOverloaded or EngineUnavailable.
        """
        name = request.group or request.id
        if not self._breaker.enter(name, trial_speaks=self._trial_speaks()):
            raise self._unavailable()
        place = _Place(request, self._send, Stopwatch(self.times, request.n))
        self._places[request.id] = place
        try:
            self._send(Admit(request))
            await place.answered(_ADMISSION_SECONDS)
            yield place
        finally:
            if self._places.pop(request.id, None) is place and not place.ended:
                self._send(Abort(request.id))
            self._breaker.leave(name, answered=place.answered_well)

    def _trial_speaks(self) -> bool:
        trial = self._breaker.trial
        return trial is not None and any(
            place.answered_well for place in self._places.values() if trial in (place.group, place.id)
        )

    def _unavailable(self) -> EngineUnavailable:
        # There, and refused all the same: it is on trial.
        detail = "The engine is being tried after it was lost; try again." if self._ready else self._detail
        return EngineUnavailable(detail, self._breaker.retry_after)

    def _send(self, message: ToServer) -> None:
        if self._link is not None:
            self._link.send(message)

    def _handle(self, message: ToClient) -> None:
        match message:
            case Step(events):
                self._step(events)
            case Admitted(request_id):
                if (place := self._places.get(request_id)) is not None:
                    place.accept()
            case Refused(request_id, reason, retry_after, by_ceiling):
                if (place := self._places.get(request_id)) is not None:
                    place.refuse((CeilingReached if by_ceiling else EngineOverloaded)(reason, retry_after))
            case Loading(fraction, stage):
                self._detail = f"The model is being loaded: {stage}, {fraction:.0%}."
            case Ready(limits):
                self._limits, self._ready = limits, True
                self._breaker.came()
                self._detail = "The engine is ready."
            case Alive(occupancy):
                self.occupancy = occupancy or Occupancy()

    def _step(self, events: list[Event]) -> None:
        at = monotonic()
        for event in events:
            if (place := self._places.get(event.id)) is not None:
                place.stopwatch.hear(event, at)
                place.push(self._lost(event) if isinstance(event, Failed) and event.kind == _LOST else event)

    def _disconnected(self) -> None:
        self.losses += self._ready
        self._ready = False
        # What it has counted stays: a counter that falls would be taken for one that began anew.
        self.occupancy = replace(self.occupancy, running=0, waiting=0, cache_usage=0.0)
        self._breaker.lost()
        self._detail = "The engine is restarting."
        if self._link is not None:
            self._link.close()
            self._link = None
        for place in self._places.values():
            place.refuse(self._unavailable())
            failed = Failed(place.id, _LOST, "The engine stopped before the end; try again.", retryable=True)
            place.push(self._lost(failed))

    def _lost(self, failed: Failed) -> Failed:
        # An engine may say itself that it is of no use any more, just before it is gone. Should it stay all the same,
        # it has to be found anew.
        self._breaker.lost()
        if self._link is not None:
            self._link.close()
        return replace(failed, retry_after=self._breaker.retry_after)


class _Place:
    """One place in the queue, and the events that arrive for it."""

    def __init__(
        self, request: GenerationRequest, send_message: Callable[[ToServer], None], stopwatch: Stopwatch
    ) -> None:
        self.id = request.id
        self.group = request.group
        self.stopwatch = stopwatch
        self.ended = False
        self._last: Event | None = None
        self._answers = request.n
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._send = send_message
        self._hear: Callable[[Event], None] | None = None

    async def answered(self, seconds: float) -> None:
        """Wait for the server's answer. Raises EngineOverloaded or EngineUnavailable."""
        timer = asyncio.get_running_loop().call_later(seconds, self._give_up)
        try:
            await self.admitted
        finally:
            timer.cancel()

    @property
    def answered_well(self) -> bool:
        """Whether something came, and nothing bad."""
        return self._last is not None and not isinstance(self._last, Failed)

    def _give_up(self) -> None:
        # Not refused: should it be admitted later, the place has to be given back.
        if not self.admitted.done():
            self.admitted.set_exception(EngineUnavailable("The engine does not answer.", _RETRY_AFTER))

    def accept(self) -> None:
        if not self.admitted.done():
            self.admitted.set_result(None)

    def refuse(self, reason: Exception) -> None:
        if not self.admitted.done():
            self.ended = True
            self.admitted.set_exception(reason)

    def push(self, event: Event) -> None:
        if self.ended:
            return
        if not isinstance(event, Delta):
            self._answers -= isinstance(event, End)
            self.ended = self._answers == 0 or isinstance(event, Failed)
        self._last = event
        if self._hear is not None:
            self._hear(event)

    def start(self, hear: Callable[[Event], None]) -> None:
        """Take up the place; `hear` is called with what is generated, until the last answer's End or Failed."""
        self._hear = hear
        if self._last is None:
            self.stopwatch.started = monotonic()
            self._send(Start(self.id))
        else:
            # All that can come before the start: that the engine is gone.
            hear(self._last)
