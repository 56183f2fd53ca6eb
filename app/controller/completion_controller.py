"""`/v1/chat/completions`: OpenAI's route to the model."""

from fastapi import Request, Response

from app.controller.auth import ChatCaller
from app.controller.completion_answer import completion
from app.controller.completion_chunks import CompletionChunks
from app.controller.completion_request import chat_request
from app.controller.idempotent_route import IdempotentRoute
from app.controller.provided import Chat
from app.controller.responses import EVENTS, REFUSALS
from app.controller.router import Router
from app.controller.sse import EventStream, limit_headers, whole
from app.controller.turn_handler import json_response
from schemas.completion_request_schema import CompletionRequest
from schemas.completion_schema import ChatCompletion
from services.stored_completion_service import ENDPOINT

router = Router(route_class=IdempotentRoute, tags=["chat completions"], responses=REFUSALS)


@router.post(ENDPOINT, response_model=ChatCompletion, responses=EVENTS)
async def create_completion(body: CompletionRequest, request: Request, caller: ChatCaller, chat: Chat) -> Response:
    """Go on with a conversation; the answer whole, or streamed as server-sent events with `stream: true`."""
    turn = (await chat.start(caller, chat_request(body))).turn
    if body.stream:
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return EventStream(turn, CompletionChunks(turn, body.model, include_usage=include_usage))
    end = await whole(turn, request)
    return json_response(completion(turn, end, body), limit_headers(turn))
