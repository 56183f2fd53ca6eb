"""What resumable turns say, written while they run: for listeners on other replicas, and for after a crash."""

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass

from app.common.errors import Unavailable
from database.repositories.chunk_statements import ADD_CHUNK
from database.session import Database
from services.answer_delta import TextDelta
from services.turn_runner import TurnPlan, TurnRunner

log = logging.getLogger(__name__)

INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class _Written:
    """How far a turn is written: deltas of it, and code points of their text."""

    deltas: int = 0
    position: int = 0


class TurnJournal:
    """One for all turns of a process: each tenant's new text is one transaction, however many turns said it."""

    def __init__(self, database: Database, runner: TurnRunner, *, interval: float = INTERVAL) -> None:
        """`interval`: seconds."""
        self._database = database
        self._runner = runner
        self._interval = interval
        self._written: dict[str, _Written] = {}

    async def run(self) -> None:
        """Write at every interval until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval
            await self.write()
            await asyncio.sleep(due - loop.time())

    async def write(self) -> None:
        """Write what is new. What cannot be written now is tried again, and keeps no other tenant's text waiting."""
        tenants: defaultdict[str, list[TurnPlan]] = defaultdict(list)
        for plan in self._runner.plans:
            if plan.turn.resumable:
                tenants[plan.opening.principal.tenant_id].append(plan)
        living = {plan.turn.id for plans in tenants.values() for plan in plans}
        self._written = {turn_id: written for turn_id, written in self._written.items() if turn_id in living}
        for tenant_id, plans in tenants.items():
            try:
                await self._write(tenant_id, plans)
            except Unavailable as error:
                log.warning("the text of running turns has to wait: %s", error.message)
            except Exception:
                log.exception("the text of running turns could not be written; it is tried again")

    async def _write(self, tenant_id: str, plans: list[TurnPlan]) -> None:
        rows, written = [], {}
        for turn in (plan.turn for plan in plans):
            before = self._written.get(turn.id, _Written())
            new = turn.since(before.deltas)
            text = "".join(delta.text for delta in new if isinstance(delta, TextDelta))
            if text:
                rows.append({"turn_id": turn.id, "position": before.position, "text": text})
                written[turn.id] = _Written(before.deltas + len(new), before.position + len(text))
        if rows:
            async with self._database.begin_prepared(tenant_id) as transaction:
                await transaction.each(rows, ADD_CHUNK)
            self._written |= written
