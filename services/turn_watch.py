"""Cancels turns that nobody has listened to for long, anywhere, and those that another instance was asked to cancel."""

import asyncio
import logging
from datetime import timedelta

from app.common.errors import Unavailable
from database.clock import now
from database.models import Lease
from database.repositories.lease_repository import LeaseRepository
from database.session import Database
from services.live_turn import LiveTurn
from services.turn_copy import cancelled
from services.turn_runner import TurnRunner

log = logging.getLogger(__name__)

_INTERVAL = 1.0


class TurnWatch:
    """Looks after the turns of this process; other instances leave notes on their leases."""

    def __init__(self, database: Database, runner: TurnRunner, *, owner: str) -> None:
        """`owner`: the instance whose leases these are."""
        self._database = database
        self._runner = runner
        self._owner = owner

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self.look()
            except Unavailable as error:
                log.warning("running turns could not be looked after: %s", error.message)
            except Exception:
                log.exception("running turns could not be looked after")

    async def look(self) -> None:
        """Cancel what is to be cancelled."""
        turns = [plan.turn for plan in self._runner.plans]
        if not turns:
            return
        async with self._database.begin_global() as session:
            notes = {lease.turn_id: lease for lease in await LeaseRepository(session).noted(self._owner)}
        for turn in turns:
            note = notes.get(turn.id)
            if note is not None and note.stopped_at is not None:
                turn.stop(cancelled())
            elif turn.patience and turn.is_unheard(turn.patience) and not _is_heard(note, turn):
                log.info("nobody has listened to turn %s for %g s; it is cancelled", turn.id, turn.patience)
                turn.unheard.set()


def _is_heard(note: Lease | None, turn: LiveTurn) -> bool:
    patience = timedelta(seconds=turn.patience)
    return note is not None and note.heard_at is not None and now() - note.heard_at < patience
