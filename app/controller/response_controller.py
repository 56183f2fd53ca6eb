"""`/v1/responses`: OpenAI's newer route to the model."""

from fastapi import Request, Response

from app.controller.auth import ChatCaller
from app.controller.idempotent_route import IdempotentRoute
from app.controller.provided import Chat, Responses
from app.controller.response_answer import begun, ended
from app.controller.response_events import ResponseEvents
from app.controller.response_items import references
from app.controller.response_output import output_of
from app.controller.response_request import chat_request
from app.controller.responses import EVENTS, REFUSALS
from app.controller.router import Router
from app.controller.sse import EventStream, limit_headers, whole
from app.controller.turn_handler import json_response
from schemas.response_request_schema import ResponseRequest
from schemas.response_schema import ResponseObject
from services.response_service import ENDPOINT

router = Router(route_class=IdempotentRoute, prefix=ENDPOINT, tags=["responses"], responses=REFUSALS)


@router.post("", response_model=ResponseObject, responses=EVENTS)
async def create_response(
    body: ResponseRequest,
    request: Request,
    caller: ChatCaller,
    chat: Chat,
    responses: Responses,
) -> Response:
    """Answer what is said; whole, streamed as typed server-sent events, or in the background."""
    known = await responses.items(caller, references(body.input))
    started = await chat.start(caller, chat_request(body, known))
    turn, blank = started.turn, begun(started, body)
    if body.stream:
        events = ResponseEvents(turn.id, blank)
        return EventStream(turn, events, first=events.begin())
    if body.background:
        request.state.turn_id = turn.id
        return json_response(blank, limit_headers(turn))
    end = await whole(turn, request)
    return json_response(ended(blank, end, output_of(turn.id, turn.parts, end)), limit_headers(turn))
