"""`/v1/responses/{response_id}`: responses that were stored."""

from typing import Annotated

from fastapi import Path, Query, Response

from app.common.errors import InvalidRequest
from app.controller.auth import ChatCaller, EraserActor, HistoryEraser, HistoryReader, Recheck
from app.controller.item_view import item_view
from app.controller.provided import Follower, Responses
from app.controller.response_answer import shown_id
from app.controller.response_events import ResponseEvents
from app.controller.response_items import row_id
from app.controller.responses import EVENTS, REFUSALS
from app.controller.router import Router
from app.controller.sse import EventStream
from app.controller.stored_response import shown, unsaid
from schemas.response_schema import DeletedResponse, InputItemPage, InputItemQuery, ResponseObject, ResponseQuery
from schemas.wire_id import ResponseId
from services.response_service import ENDPOINT

router = Router(prefix=f"{ENDPOINT}/{{response_id}}", tags=["responses"], responses=REFUSALS)
TurnId = Annotated[ResponseId, Path(alias="response_id")]


@router.get("", response_model=ResponseObject, responses=EVENTS)
async def get_response(
    turn_id: TurnId,
    query: Annotated[ResponseQuery, Query()],
    caller: HistoryReader,
    check: Recheck,
    responses: Responses,
    follower: Follower,
) -> Response | ResponseObject:
    """Show a stored response; or with `stream=true` the events of one in the background, from wherever it runs."""
    stored = await responses.get(caller, turn_id)
    if not query.stream:
        if stored.runs and stored.in_background:
            # Whoever asks now and then listens too: it must not be given up.
            (await follower.follow(caller.tenant_id, turn_id)).leave()
        return shown(stored)
    if not stored.in_background:
        raise InvalidRequest("Only a response in the background can be listened to again.", param="stream")
    turn = await follower.follow(caller.tenant_id, turn_id)
    after = -1 if query.starting_after is None else query.starting_after
    events = ResponseEvents(turn_id, unsaid(stored), after=after)
    return EventStream(turn, events, first=events.begin(), check=check)


@router.post("/cancel")
async def cancel_response(
    turn_id: TurnId, caller: ChatCaller, _reader: HistoryReader, responses: Responses, follower: Follower
) -> ResponseObject:
    """Cancel a response in the background, wherever it runs; what it has said so far stays."""
    stored = await responses.get(caller, turn_id)
    if not stored.in_background:
        raise InvalidRequest("Only a response in the background can be cancelled.", param="response_id")
    if stored.runs:
        await follower.cancel(caller.tenant_id, turn_id)
        stored = await responses.get(caller, turn_id)
    return shown(stored)


@router.delete("")
async def delete_response(
    turn_id: TurnId, caller: HistoryEraser, by: EraserActor, responses: Responses
) -> DeletedResponse:
    """Erase a response with all that was said in it, also from its conversation, for good."""
    await responses.delete(by, caller.tenant_id, turn_id)
    return DeletedResponse(id=shown_id(turn_id))


@router.get("/input_items")
async def list_input_items(
    turn_id: TurnId, query: Annotated[InputItemQuery, Query()], caller: HistoryReader, responses: Responses
) -> InputItemPage:
    """List what was said to the model in this response's own turn."""
    after = None if query.after is None else row_id(query.after)
    newest_first = query.order == "desc"
    found = await responses.told(caller, turn_id, after=after, limit=query.limit + 1, newest_first=newest_first)
    data = [item_view(item) for item in found[: query.limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return InputItemPage(data=data, first_id=first, last_id=last, has_more=len(found) > query.limit)
