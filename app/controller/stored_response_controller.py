"""`/v1/responses/{response_id}`: responses that were stored."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.controller.auth import HistoryEraser, HistoryReader
from app.controller.provided import Responses
from app.controller.response_items import row_id
from app.controller.responses import REFUSALS
from app.controller.stored_response import input_item, shown
from schemas.response_schema import DeletedResponse, InputItemPage, InputItemQuery, ResponseObject
from schemas.wire_id import ResponseId
from services.response_service import ENDPOINT

router = APIRouter(prefix=f"{ENDPOINT}/{{response_id}}", tags=["responses"], responses=REFUSALS)
TurnId = Annotated[ResponseId, Path(alias="response_id")]


@router.get("")
async def get_response(turn_id: TurnId, caller: HistoryReader, responses: Responses) -> ResponseObject:
    """Show a stored response."""
    return shown(await responses.get(caller, turn_id))


@router.delete("")
async def delete_response(turn_id: TurnId, caller: HistoryEraser, responses: Responses) -> DeletedResponse:
    """Erase a response with all that was said in it, also from its conversation, for good."""
    await responses.delete(caller, turn_id)
    return DeletedResponse(id=f"resp_{turn_id}")


@router.get("/input_items")
async def list_input_items(
    turn_id: TurnId, query: Annotated[InputItemQuery, Query()], caller: HistoryReader, responses: Responses
) -> InputItemPage:
    """List what was said to the model in this response's own turn."""
    after = None if query.after is None else row_id(query.after)
    newest_first = query.order == "desc"
    found = await responses.told(caller, turn_id, after=after, limit=query.limit + 1, newest_first=newest_first)
    data = [input_item(item) for item in found[: query.limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return InputItemPage(data=data, first_id=first, last_id=last, has_more=len(found) > query.limit)
