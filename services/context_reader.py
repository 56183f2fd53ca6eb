"""What was said before a turn: in a stored conversation, or in the responses that it goes on from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from app.common.errors import Conflict, InvalidRequest, NotFound
from database.models import TurnStatus
from database.repositories.response_statements import READ_RESPONSES
from database.repositories.turn_statements import READ_CONVERSATION
from database.session import Database
from services.chat_request import ChatRequest
from services.principal import Principal
from services.prompt_messages import with_whole_calls
from services.said_item import SaidItem

# What a turn that ended so has said stands: who heard it may go on from it.
_SAID = {TurnStatus.COMPLETED, TurnStatus.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What was said, in order, and the conversation's length then; None without one."""

    items: Sequence[SaidItem]
    length: int | None


class ContextReader:
    """Reads what a request goes on from."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, principal: Principal, request: ChatRequest) -> Context:
        """All of it, or nothing if the request begins anew.

        Raises NotFound or InvalidRequest for what is not there, Conflict while a response that it goes on from runs.
        """
        if request.conversation_id is not None:
            return await self._conversation(principal, request)
        if request.previous_id is not None:
            return Context(items=await self._responses(principal, request), length=None)
        return Context(items=[], length=None)

    async def _conversation(self, principal: Principal, request: ChatRequest) -> Context:
        given = {"conversation_id": request.conversation_id}
        rows = await self._database.run_prepared(principal.tenant_id, given, READ_CONVERSATION)
        if not rows:
            raise NotFound(
                "There is no such conversation.", param=request.names.conversation, code="conversation_not_found"
            )
        return Context(items=with_whole_calls(_items(row[1:] for row in rows)), length=rows[0][0])

    async def _responses(self, principal: Principal, request: ChatRequest) -> Sequence[SaidItem]:
        given = {"previous_id": request.previous_id, "endpoint": request.endpoint}
        rows = await self._database.run_prepared(principal.tenant_id, given, READ_RESPONSES)
        if not rows or rows[0][1] is not None:
            # What the oldest that is left goes on from was erased: an answer without it would be to something else.
            raise _gone("There is no such response, or one that it goes on from was erased.")
        status, _, conversation_id, *_ = rows[-1]
        if conversation_id is not None:
            raise InvalidRequest(
                "The response belongs to a conversation; go on from that.", param="previous_response_id"
            )
        if status == TurnStatus.RUNNING:
            raise Conflict("The response is still running; wait for its end.", code="turn_running", retry_after=1)
        if status not in _SAID:
            raise _gone("The response did not come to its end; there is nothing to go on from.")
        return _items(row[3:] for row in rows)


def _gone(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="previous_response_id", code="previous_response_not_found")


def _items(rows: Iterable[Sequence[Any]]) -> list[SaidItem]:
    return [
        SaidItem(type=type_, role=role, text=text, name=name, call_id=call_id)
        for type_, role, text, name, call_id in rows
        if type_ is not None
    ]
