"""`/chat/get/messages/` and what erases: the caller's history."""

from datetime import tzinfo
from typing import Annotated

from fastapi import Path, Query

from app.controller.auth import EraserActor, HistoryEraser, HistoryReader
from app.controller.local_time import aware, local_time
from app.controller.provided import Erasure, History, Zone
from app.controller.responses import REFUSALS
from app.controller.router import Router
from database.repositories.history_repository import HistoryFilter, Row
from schemas.erasure_schema import ErasureReport, UserQuery
from schemas.history_schema import Erased, HistoryEntry, HistoryList, HistoryQuery
from schemas.text import Id

router = Router(prefix="/chat", tags=["history"], responses=REFUSALS)


@router.get("/get/messages", include_in_schema=False)
@router.get("/get/messages/")
async def get_messages(
    query: Annotated[HistoryQuery, Query()], caller: HistoryReader, history: History, zone: Zone
) -> HistoryList:
    """The tenant's prompt/response pairs, newest first."""
    wanted = HistoryFilter(
        conversation_id=query.conversation_id,
        user=query.user,
        key_id=query.key,
        since=aware(query.since, zone, "since"),
        until=aware(query.until, zone, "until"),
        status=query.status,
        text=query.q,
        after=query.after,
    )
    page = await history.page(caller, wanted, query.limit)
    return HistoryList(
        messages=[_entry(row, zone) for row in page.rows], has_more=page.next is not None, next=page.next
    )


@router.delete("/messages/{message_id}/", include_in_schema=False)
@router.delete("/messages/{message_id}")
async def delete_message(
    message_id: Annotated[Id, Path()], caller: HistoryEraser, by: EraserActor, history: History
) -> Erased:
    """Erase one prompt/response pair, also from its conversation, for good."""
    await history.delete_turn(by, caller.tenant_id, message_id)
    return Erased(id=message_id)


@router.delete("/conversations/{conversation_id}/", include_in_schema=False)
@router.delete("/conversations/{conversation_id}")
async def delete_conversation(
    conversation_id: Annotated[Id, Path()], caller: HistoryEraser, by: EraserActor, erasure: Erasure
) -> ErasureReport:
    """Erase a conversation with everything that was said in it, for good."""
    return ErasureReport(id=conversation_id, rows=await erasure.conversation(by, caller.tenant_id, conversation_id))


@router.delete("/users/", include_in_schema=False)
@router.delete("/users")
async def delete_user(
    query: Annotated[UserQuery, Query()], caller: HistoryEraser, by: EraserActor, erasure: Erasure
) -> ErasureReport:
    """Erase the conversations and turns of one end user, for good."""
    return ErasureReport(rows=await erasure.user(by, caller.tenant_id, query.user))


def _entry(row: Row, zone: tzinfo | None) -> HistoryEntry:
    turn, text = row
    return HistoryEntry(
        message_id=turn.id,
        conversation_id=turn.conversation_id,
        prompt=text and text.prompt,
        response=text and text.response,
        model=turn.model,
        status=turn.status,
        time=local_time(turn.created_at, zone),
        created_at=turn.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        finish_reason=turn.finish_reason,
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
    )
