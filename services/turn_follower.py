"""Listening to a turn wherever it runs: in this process, in another one, or no longer."""

import asyncio
from contextlib import suppress

from app.common.errors import Forbidden, NotFound
from database.clock import now
from database.models import TurnStatus
from database.repositories.lease_repository import LeaseRepository
from database.repositories.turn_repository import TurnRepository
from database.session import Database
from services.live_turn import LiveTurn
from services.principal import Scope
from services.turn_copy import TurnCopy, cancelled
from services.turn_end import TurnEnd
from services.turn_reading import stopping, usage_so_far
from services.turn_runner import TurnRunner

_LONGEST_SILENCE = 10.0
# How often is looked whether a turn that is cancelled elsewhere has ended.
_INTERVAL = 0.25


class TurnFollower:
    """Finds turns by id. One that runs elsewhere is copied, piece by piece, from what its process writes."""

    def __init__(self, database: Database, runner: TurnRunner, *, unheard_seconds: float) -> None:
        """`unheard_seconds`: after how long without a listener other processes cancel their turns."""
        self._database = database
        self._runner = runner
        self._heartbeat = min(unheard_seconds / 3, _LONGEST_SILENCE)
        self._closed = asyncio.Event()
        self._copies: dict[tuple[str, str], tuple[LiveTurn, asyncio.Task[None]]] = {}

    async def follow(self, tenant_id: str, turn_id: str, *, reads_history: bool = True) -> LiveTurn:
        """A turn to listen to, from any offset in its text; one that has ended says all at once.

        Without `reads_history` only one in the background: who begins it gets its answer here. Any other was answered
        to who asked, and is history for everybody else.

        Raises NotFound for a turn that is not there, not this tenant's, or of which only numbers are kept; Forbidden;
        Unavailable for one that runs elsewhere while this process stops.
        """
        turn = self._runner.find(tenant_id, turn_id)
        if turn is not None and turn.resumable:
            return turn
        copied = self._copied(tenant_id, turn_id, reads_history=reads_history)
        return copied or await self._copy(tenant_id, turn_id, reads_history=reads_history)

    async def cancel(self, tenant_id: str, turn_id: str) -> TurnStatus:
        """Cancel a turn wherever it runs, and wait for its end; the state it ended in, whatever is kept of it.

        Raises NotFound for a turn that is not there, or not this tenant's; Unavailable for one that runs elsewhere
        while this process stops, or without a database.
        """
        turn = self._runner.find(tenant_id, turn_id)
        if turn is None:
            return await self._cancel_elsewhere(tenant_id, turn_id)
        turn.stop(cancelled())
        async for event in turn.events():
            if isinstance(event, TurnEnd):
                return event.status
        raise AssertionError("a turn's events end with its end")

    async def close(self) -> None:
        """Stop copying, and tell those who listen, whose turns go on."""
        self._closed.set()
        copies = list(self._copies.values())
        for _, task in copies:
            task.cancel()
        await asyncio.gather(*(task for _, task in copies), return_exceptions=True)
        for turn, _ in copies:
            if not turn.has_ended:
                error = stopping("The service is stopping; the answer goes on, listen again.")
                turn.end(TurnEnd(status=TurnStatus.RUNNING, usage=usage_so_far(turn), error=error))

    async def _cancel_elsewhere(self, tenant_id: str, turn_id: str) -> TurnStatus:
        # Its state alone is read: of a turn of which only numbers are kept, there is no text to copy.
        status = await self._status(tenant_id, turn_id)
        if status == TurnStatus.RUNNING:
            async with self._database.begin_global() as session:
                await LeaseRepository(session).stop(turn_id, now())
        while status == TurnStatus.RUNNING:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _INTERVAL)
                raise stopping("The service is stopping; the turn is being cancelled, ask again.")
            status = await self._status(tenant_id, turn_id)
        return status

    async def _status(self, tenant_id: str, turn_id: str) -> TurnStatus:
        async with self._database.begin(tenant_id) as session:
            turn = await TurnRepository(session).get(turn_id)
        if turn is None:
            raise _not_there()
        return TurnStatus(turn.status)

    async def _copy(self, tenant_id: str, turn_id: str, *, reads_history: bool) -> LiveTurn:
        async with self._database.begin(tenant_id) as session:
            found = await TurnRepository(session).with_response(turn_id)
        if found is None:
            raise _not_there()
        row, response = found
        copy = TurnCopy(self._database, tenant_id, row, response)
        if not copy.turn.resumable and not reads_history:
            # Before anybody counts as a listener, for whom a turn would go on.
            raise Forbidden(f"The API key lacks the scope {Scope.HISTORY_READ.value!r}: this was no background turn.")
        if row.status != TurnStatus.RUNNING:
            return copy.turn
        if self._closed.is_set():
            raise stopping("The service is stopping; listen again.")
        if (faster := self._copied(tenant_id, turn_id, reads_history=reads_history)) is not None:
            return faster
        name = (tenant_id, turn_id)
        task = asyncio.create_task(copy.feed(self._heartbeat))
        self._copies[name] = copy.turn, task
        task.add_done_callback(lambda _task: self._copies.pop(name))
        return copy.turn

    def _copied(self, tenant_id: str, turn_id: str, *, reads_history: bool) -> LiveTurn | None:
        turn, _ = self._copies.get((tenant_id, turn_id), (None, None))
        if turn is None or not (turn.resumable or reads_history):
            return None
        # It must not be given up before whoever asks begins to listen.
        turn.leave()
        return turn


def _not_there() -> NotFound:
    return NotFound("There is no such message.", param="message_id", code="message_not_found")
