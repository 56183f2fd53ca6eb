"""The prompt/response log, as its tenant reads and erases it."""

from dataclasses import dataclass

from app.common.errors import Conflict, NotFound
from database.models import TurnStatus
from database.repositories.history_repository import HistoryFilter, HistoryRepository, Row
from database.repositories.turn_repository import TurnRepository
from database.session import Database
from services.audit_service import Actor
from services.erasure_service import erase_turn
from services.principal import Principal

_SCAN = 5000


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Rows, newest first. `next` continues after them; None says that nothing is left."""

    rows: list[Row]
    next: str | None


class HistoryService:
    """Pages by key, never by offset: a page costs the same wherever it lies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, principal: Principal, wanted: HistoryFilter, limit: int) -> HistoryPage:
        """At most `limit` rows of the tenant. A search by text may return fewer and still have a next page."""
        async with self._database.begin(principal.tenant_id) as session:
            history = HistoryRepository(session)
            if wanted.text is None:
                rows, scanned = await history.page(wanted, limit + 1), None
            else:
                rows, scanned = await history.search(wanted, limit + 1, _SCAN)
        if len(rows) > limit:
            return HistoryPage(rows[:limit], rows[limit - 1][0].id)
        return HistoryPage(rows, scanned)

    async def delete_turn(self, by: Actor, tenant_id: str, turn_id: str) -> None:
        """Erase a turn, its text and what it said in its conversation. Raises NotFound, or Conflict while it runs."""
        async with self._database.begin(tenant_id) as session:
            turn = await TurnRepository(session).get(turn_id)
            if turn is not None and turn.status == TurnStatus.RUNNING:
                raise Conflict("The turn is still running; wait for its end.", code="turn_running", retry_after=1)
            if turn is None or not await erase_turn(session, by, turn):
                raise NotFound("There is no such message.", param="message_id", code="message_not_found")
        await self._database.empty_log()
