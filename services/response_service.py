"""Stored responses: read, listed and erased by their ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.common.errors import Conflict, NotFound
from database.models import Item, Turn, TurnStatus
from database.repositories.response_repository import ResponseRepository
from database.repositories.response_statements import item_parameters, read_items
from database.session import Database
from services.audit_service import Actor
from services.erasure_service import erase_turn
from services.principal import Principal
from services.said_item import SaidItem

ENDPOINT = "/v1/responses"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A response's turn, and what the model said in it; nothing while it runs."""

    turn: Turn
    output: Sequence[Item]

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.turn.status == TurnStatus.RUNNING

    @property
    def in_background(self) -> bool:
        """Whether it runs on when nobody listens."""
        return bool(self.turn.parameters.get("background"))


class ResponseService:
    """What was stored of one tenant's responses. Ids are those of their turns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: Principal, turn_id: str) -> StoredResponse:
        """A response. Raises NotFound."""
        async with self._database.begin(principal.tenant_id) as session:
            responses = ResponseRepository(session, ENDPOINT)
            turn = _existing(await responses.find(turn_id))
            return StoredResponse(turn=turn, output=await responses.output(turn_id))

    async def told(
        self, principal: Principal, turn_id: str, *, after: str | None, limit: int, newest_first: bool
    ) -> Sequence[Item]:
        """What the model was told in a response's own turn, once that has ended. Raises NotFound."""
        async with self._database.begin(principal.tenant_id) as session:
            responses = ResponseRepository(session, ENDPOINT)
            _existing(await responses.find(turn_id))
            return await responses.told(turn_id, after=after, limit=limit, newest_first=newest_first)

    async def delete(self, by: Actor, tenant_id: str, turn_id: str) -> None:
        """Erase a response for good, also from its conversation. Raises NotFound, or Conflict while it runs."""
        async with self._database.begin(tenant_id) as session:
            turn = _existing(await ResponseRepository(session, ENDPOINT).find(turn_id))
            if turn.status == TurnStatus.RUNNING:
                message = "The response is still running; cancel it, or wait for its end."
                raise Conflict(message, code="turn_running", retry_after=1)
            _existing(turn if await erase_turn(session, by, turn) else None)
        await self._database.empty_log()

    async def items(self, principal: Principal, ids: Sequence[str]) -> dict[str, SaidItem]:
        """Those of these items that are stored."""
        if not ids:
            return {}
        given = item_parameters(ids)
        found = await self._database.run_prepared(principal.tenant_id, given, read_items(len(given)))
        return {
            item_id: SaidItem(type=type_, role=role, text=text, name=name, call_id=call_id)
            for item_id, type_, role, text, name, call_id in found
        }


def _existing(turn: Turn | None) -> Turn:
    if turn is None:
        raise NotFound("There is no such response.", param="response_id", code="response_not_found")
    return turn
