"""`/v1/chat/completions` that were stored: listed, shown, labelled, erased."""

from typing import Annotated

from fastapi import Path, Query

from app.common.errors import InvalidRequest
from app.controller.auth import ChatCaller, EraserActor, HistoryEraser, HistoryReader
from app.controller.completion_answer import completion_id
from app.controller.provided import StoredCompletions
from app.controller.responses import REFUSALS
from app.controller.router import Router
from app.controller.stored_completion_answer import stored_completion, stored_messages
from database.repositories.stored_turn_repository import StoredTurnFilter
from schemas.completion_schema import ChatCompletion
from schemas.metadata import MetadataChange
from schemas.page_schema import Page, page_of
from schemas.stored_completion_schema import (
    CompletionQuery,
    DeletedCompletion,
    MessageQuery,
    StoredMessage,
)
from schemas.wire_id import CompletionId
from services.stored_completion_service import ENDPOINT

router = Router(prefix=ENDPOINT, tags=["chat completions"], responses=REFUSALS)
TurnId = Annotated[CompletionId, Path(alias="completion_id")]


@router.get("")
async def list_completions(
    query: Annotated[CompletionQuery, Query()], caller: HistoryReader, stored: StoredCompletions
) -> Page[ChatCompletion]:
    """List what was asked with `store: true`, oldest first; `metadata[key]=value` for each label to look for."""
    wanted = StoredTurnFilter(
        model=query.model, labels=query.metadata, after=query.after, newest_first=query.order == "desc"
    )
    found = await stored.page(caller, wanted, query.limit + 1)
    return page_of([stored_completion(one) for one in found], query.limit)


@router.get("/{completion_id}")
async def get_completion(turn_id: TurnId, caller: HistoryReader, stored: StoredCompletions) -> ChatCompletion:
    """Show one, as it was answered."""
    return stored_completion(await stored.get(caller, turn_id))


@router.post("/{completion_id}")
async def label_completion(
    turn_id: TurnId, change: MetadataChange, caller: ChatCaller, _reader: HistoryReader, stored: StoredCompletions
) -> ChatCompletion:
    """Give it other metadata, in place of what it has."""
    return stored_completion(await stored.label(caller, turn_id, change.metadata or {}))


@router.delete("/{completion_id}")
async def delete_completion(
    turn_id: TurnId, caller: HistoryEraser, by: EraserActor, stored: StoredCompletions
) -> DeletedCompletion:
    """Erase it with all that was said, for good; what it has used stays counted."""
    await stored.delete(by, caller.tenant_id, turn_id)
    return DeletedCompletion(id=completion_id(turn_id))


@router.get("/{completion_id}/messages")
async def list_messages(
    turn_id: TurnId, query: Annotated[MessageQuery, Query()], caller: HistoryReader, stored: StoredCompletions
) -> Page[StoredMessage]:
    """List what the model was told."""
    messages = stored_messages(turn_id, await stored.told(caller, turn_id))
    if query.order == "desc":
        messages.reverse()
    if query.after is not None:
        ids = [message.id for message in messages]
        if query.after not in ids:
            raise InvalidRequest("The completion has no such message.", param="after", code="invalid_value")
        messages = messages[ids.index(query.after) + 1 :]
    return page_of(messages, query.limit)
