"""`/v1/conversations`: the conversations that `/chat` and `/v1/responses` continue."""

from typing import Annotated

from fastapi import Path, Query

from app.controller.auth import ChatCaller, EraserActor, HistoryEraser, HistoryReader
from app.controller.conversation_view import conversation_id, conversation_view
from app.controller.local_time import aware
from app.controller.provided import Conversations, Erasure, Zone
from app.controller.response_items import said_items
from app.controller.responses import REFUSALS
from app.controller.router import Router
from database.repositories.conversation_repository import ConversationFilter
from schemas.conversation_schema import ConversationQuery, ConversationView, DeletedConversation, NewConversation
from schemas.metadata import MetadataChange
from schemas.page_schema import Page
from schemas.wire_id import ConversationId

router = Router(prefix="/v1/conversations", tags=["conversations"], responses=REFUSALS)
RowId = Annotated[ConversationId, Path(alias="conversation_id")]


@router.post("")
async def create_conversation(
    wanted: NewConversation, caller: ChatCaller, conversations: Conversations
) -> ConversationView:
    """Make a conversation, in which something may have been said already."""
    items = said_items(wanted.items or [], {})
    return conversation_view(await conversations.create(caller, items, wanted.metadata or {}, wanted.user))


@router.get("")
async def list_conversations(
    query: Annotated[ConversationQuery, Query()], caller: HistoryReader, conversations: Conversations, zone: Zone
) -> Page[ConversationView]:
    """List the tenant's conversations; `metadata[key]=value` for each label to look for."""
    wanted = ConversationFilter(
        labels=query.metadata,
        user=query.user,
        since=aware(query.since, zone, "since"),
        until=aware(query.until, zone, "until"),
        text=query.q,
        after=query.after,
        newest_first=query.order == "desc",
    )
    page = await conversations.page(caller, wanted, query.limit)
    shown = [conversation_view(row) for row in page.rows]
    last = page.next or (page.rows[-1].id if page.rows else None)
    return Page(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=None if last is None else conversation_id(last),
        has_more=page.next is not None,
    )


@router.get("/{conversation_id}")
async def get_conversation(row_id: RowId, caller: HistoryReader, conversations: Conversations) -> ConversationView:
    """Show one."""
    return conversation_view(await conversations.get(caller, row_id))


@router.post("/{conversation_id}")
async def label_conversation(
    row_id: RowId, change: MetadataChange, caller: ChatCaller, _reader: HistoryReader, conversations: Conversations
) -> ConversationView:
    """Give it other metadata, in place of what it has."""
    return conversation_view(await conversations.label(caller, row_id, change.metadata or {}))


@router.delete("/{conversation_id}")
async def delete_conversation(
    row_id: RowId, caller: HistoryEraser, by: EraserActor, erasure: Erasure
) -> DeletedConversation:
    """Erase it with everything that was said in it, for good."""
    await erasure.conversation(by, caller.tenant_id, row_id)
    return DeletedConversation(id=conversation_id(row_id))
