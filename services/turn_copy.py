"""A turn as its rows tell it: a copy for those who listen to it away from the process that runs it."""

import asyncio
import logging
import time

from app.common.errors import AppError, Conflict, GenerationFailed, NotFound, TurnInterrupted, Unavailable
from database.clock import now
from database.models import Turn, TurnStatus
from database.repositories.chunk_statements import READ_CHUNKS, STILL_RUNS
from database.repositories.lease_repository import LeaseRepository
from database.repositories.turn_repository import TurnRepository
from database.session import Database
from services.answer_delta import TextDelta
from services.live_turn import LiveTurn
from services.turn_end import TurnEnd, Usage

log = logging.getLogger(__name__)

_INTERVAL = 0.25
# For so long a copy is fed that nobody listens to any more: whoever lost the connection comes back to it.
LINGER = 5.0


class TurnCopy:
    """Reads a turn's rows until it ends, or nobody listens to the copy any more.

    Attributes:
        turn: what listeners listen to.
    """

    def __init__(self, database: Database, tenant_id: str, row: Turn, response: str) -> None:
        self.turn = LiveTurn(
            id=row.id,
            conversation_id=row.conversation_id,
            created_at=row.created_at,
            prompt_tokens=row.prompt_tokens,
            dropped_turns=row.dropped_turns,
            patience=LINGER,
            resumable=bool(row.parameters.get("background")),
        )
        self._database = database
        self._tenant_id = tenant_id
        # Code points so far, and where the last piece that was read began: it may be written again, longer.
        self._length = self._last = 0
        if row.status != TurnStatus.RUNNING:
            self._end(row, response)

    async def feed(self, heartbeat: float) -> None:
        """Run until then. After every `heartbeat` seconds the process that runs the turn is told that it is heard."""
        heard_at = -heartbeat
        while not self.turn.is_unheard(LINGER):
            try:
                if time.monotonic() - heard_at >= heartbeat:
                    await self._hear()
                    heard_at = time.monotonic()
                if not await self._read():
                    return
            except Unavailable as error:
                log.warning("a turn of another process has to wait: %s", error.message)
            except Exception:
                log.exception("a turn of another process could not be read; it is tried again")
            await asyncio.sleep(_INTERVAL)

    async def _hear(self) -> None:
        async with self._database.begin_global() as session:
            await LeaseRepository(session).hear(self.turn.id, now())

    async def _read(self) -> bool:
        """Read what is new; whether the turn still runs."""
        given = {"turn_id": self.turn.id, "position": self._last}
        async with self._database.begin_prepared(self._tenant_id) as transaction:
            runs, chunks = await transaction.run(given, STILL_RUNS, READ_CHUNKS)
        if runs:
            for position, text in chunks:
                self._add(text[self._length - position :])
                self._last = position
            return True
        async with self._database.begin(self._tenant_id) as session:
            found = await TurnRepository(session).with_response(self.turn.id)
        if found is None:
            erased = NotFound("The message was erased.", code="message_not_found")
            nothing = Usage(prompt_tokens=0, cached_tokens=0, completion_tokens=0)
            self.turn.end(TurnEnd(status=TurnStatus.FAILED, usage=nothing, error=erased))
        else:
            self._end(*found)
        return False

    def _add(self, text: str) -> None:
        if text:
            self._length += len(text)
            self.turn.append([TextDelta(text)])

    def _end(self, row: Turn, response: str) -> None:
        self._add(response[self._length :])
        usage = Usage(
            prompt_tokens=row.prompt_tokens, cached_tokens=row.cached_tokens, completion_tokens=row.completion_tokens
        )
        reasons = (row.finish_reason,) if row.finish_reason else ()
        self.turn.end(TurnEnd(status=TurnStatus(row.status), usage=usage, finish_reasons=reasons, error=_error(row)))


def cancelled() -> Conflict:
    """What the listeners of a turn that was cancelled are told."""
    return Conflict("The turn was cancelled; what it had said is stored.", code="turn_cancelled")


def _error(row: Turn) -> AppError | None:
    match row.status:
        case TurnStatus.FAILED:
            return GenerationFailed("The answer could not be made.", code=row.error)
        case TurnStatus.CANCELLED:
            return cancelled()
        case TurnStatus.INTERRUPTED:
            return TurnInterrupted()
    return None
