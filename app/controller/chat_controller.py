"""`/chat/new/message/`: the original service's route to the model."""

from collections.abc import Sequence
from datetime import tzinfo

from fastapi import Request, Response

from app.controller.auth import ChatCaller
from app.controller.chat_events import ChatEvents, chat_event, token_usage
from app.controller.idempotent_route import IdempotentRoute, is_shared
from app.controller.local_time import local_time
from app.controller.provided import Everything, provided
from app.controller.responses import EVENTS, REFUSALS
from app.controller.router import Router
from app.controller.sse import EventStream, limit_headers, whole
from app.controller.stream_url import stream_url
from app.controller.turn_handler import json_response
from schemas.chat_schema import Answer, BackgroundTurn, NewMessage, SaidMessage
from services.answer_delta import written
from services.chat_request import ChatRequest
from services.inference.engine import SamplingParams
from services.inference.prompt import Message
from services.live_turn import LiveTurn
from services.principal import Principal
from services.said_item import SaidItem
from services.turn_end import TurnEnd


class _ChatRoute(IdempotentRoute):
    """One whose 202 lets each caller listen by its own API key."""

    async def accepted(self, request: Request, caller: Principal, body: bytes) -> bytes:
        begun = BackgroundTurn.model_validate_json(body)
        url = stream_url(request, await provided(request), caller, begun.message_id)
        return begun.model_copy(update={"stream_url": url}).model_dump_json().encode()


router = Router(route_class=_ChatRoute, prefix="/chat", tags=["chat"])
_ENDPOINT = "/chat/new/message/"
_EVENT_STREAM = "text/event-stream"


@router.post("/new/message", include_in_schema=False, response_model=Answer)
@router.post(
    "/new/message/",
    response_model=Answer,
    responses={**REFUSALS, **EVENTS, 202: {"model": BackgroundTurn}},
)
async def new_message(
    message: NewMessage,
    request: Request,
    caller: ChatCaller,
    here: Everything,
) -> Response:
    """Ask the model; the answer whole, streamed as server-sent events (`stream`), or to be fetched (`background`)."""
    started = await here.chat.start(caller, _chat_request(message))
    turn = started.turn
    if message.background:
        request.state.turn_id = turn.id
        begun = BackgroundTurn(
            message_id=turn.id,
            conversation_id=turn.conversation_id,
            # Its token is one caller's: where there may be several, each gets its own when it is answered.
            stream_url="" if is_shared(request) else stream_url(request, here, caller, turn.id),
            time=local_time(turn.created_at, here.zone),
        )
        return Response(begun.model_dump_json(), 202, limit_headers(turn), "application/json")
    if message.stream:
        return EventStream(turn, ChatEvents(turn))
    end = await whole(turn, request)
    headers = limit_headers(turn)
    if message.stream is None and _EVENT_STREAM in request.headers.get("accept", ""):
        data = chat_event({"text": turn.text, "message_id": turn.id})
        return Response(data, media_type=_EVENT_STREAM, headers=headers)
    return json_response(_answer(turn, end, started.messages, here.zone), headers)


def _chat_request(message: NewMessage) -> ChatRequest:
    return ChatRequest(
        items=[
            *(SaidItem(role=said.role, text=said.content) for said in message.history or []),
            SaidItem(role="user", text=message.prompt),
        ],
        conversation_id=message.conversation_id,
        background=message.background,
        truncates=message.conversation_id is not None,
        user=message.user,
        store=message.store,
        max_tokens=message.max_tokens,
        sampling=SamplingParams(temperature=message.temperature, top_p=message.top_p),
        endpoint=_ENDPOINT,
        parameters=message.model_dump(include={"max_tokens", "temperature", "top_p", "stream", "store", "background"}),
    )


def _answer(turn: LiveTurn, end: TurnEnd, before: Sequence[Message], zone: tzinfo | None) -> Answer:
    said = [*before, Message("assistant", turn.text)]
    return Answer(
        response=turn.text,
        history=[SaidMessage(role=one.role, content=written(one.content, one.tool_calls)) for one in said],
        time=local_time(turn.created_at, zone),
        message_id=turn.id,
        conversation_id=turn.conversation_id,
        usage=token_usage(end.usage),
        finish_reason=end.finish_reason or "",
        dropped_turns=turn.dropped_turns,
    )
