"""`/v1/conversations/{conversation_id}/items`: what was said in a conversation."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Path, Query

from app.controller.auth import ChatCaller, EraserActor, HistoryEraser, HistoryReader
from app.controller.conversation_controller import RowId
from app.controller.conversation_view import conversation_view
from app.controller.item_view import item_view
from app.controller.provided import Conversations
from app.controller.response_items import said_items
from app.controller.responses import REFUSALS
from app.controller.router import Router
from database.models import Item
from schemas.conversation_schema import ConversationView, IncludeQuery, ItemQuery, NewItems
from schemas.response_schema import InputItemPage, InputItemView
from schemas.wire_id import ItemId

router = Router(prefix="/v1/conversations/{conversation_id}/items", tags=["conversations"], responses=REFUSALS)
_ItemRowId = Annotated[ItemId, Path(alias="item_id")]
_Include = Annotated[IncludeQuery, Query()]


@router.post("")
async def create_items(
    row_id: RowId, new: NewItems, _include: _Include, caller: ChatCaller, conversations: Conversations
) -> InputItemPage:
    """Say something in it; the model does not answer."""
    added = await conversations.add(caller, row_id, said_items(new.items, {}))
    return _page(added, len(added))


@router.get("")
async def list_items(
    row_id: RowId, query: Annotated[ItemQuery, Query()], caller: HistoryReader, conversations: Conversations
) -> InputItemPage:
    """List what was said in it."""
    newest_first = query.order == "desc"
    found = await conversations.items(caller, row_id, query.after, query.limit + 1, newest_first=newest_first)
    return _page(found, query.limit)


@router.get("/{item_id}")
async def get_item(
    row_id: RowId, item_id: _ItemRowId, _include: _Include, caller: HistoryReader, conversations: Conversations
) -> InputItemView:
    """Show one item."""
    return item_view(await conversations.item(caller, row_id, item_id))


@router.delete("/{item_id}")
async def delete_item(
    row_id: RowId,
    item_id: _ItemRowId,
    caller: HistoryEraser,
    by: EraserActor,
    _reader: HistoryReader,
    conversations: Conversations,
) -> ConversationView:
    """Erase one item, also from the log, for good; the conversation that it was said in."""
    return conversation_view(await conversations.delete_item(by, caller.tenant_id, row_id, item_id))


def _page(found: Sequence[Item], limit: int) -> InputItemPage:
    data = [item_view(item) for item in found[:limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return InputItemPage(data=data, first_id=first, last_id=last, has_more=len(found) > limit)
