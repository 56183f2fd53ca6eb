"""`/chat/new/message/`: the original service's route to the model."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from app.common.handlers import error_envelope
from app.controller.auth import ChatCaller
from app.controller.local_time import local_time
from app.controller.provided import Chat, Zone
from app.controller.responses import REFUSALS, also
from app.controller.sse import KEEP_ALIVE, EventStream, limit_headers, whole
from schemas.chat_schema import Answer, NewMessage, SaidMessage, TokenUsage
from services.answer_delta import TextDelta, written
from services.chat_request import ChatRequest
from services.inference.engine import SamplingParams
from services.inference.prompt import Message
from services.live_turn import LiveTurn, TurnEnd, TurnEvent, Usage
from services.said_item import SaidItem

router = APIRouter(prefix="/chat", tags=["chat"])
_ENDPOINT = "/chat/new/message/"
_EVENT_STREAM = "text/event-stream"


@router.post("/new/message", include_in_schema=False, response_model=Answer)
@router.post("/new/message/", response_model=Answer, responses={**REFUSALS, **also("text/event-stream")})
async def new_message(
    message: NewMessage,
    request: Request,
    response: Response,
    caller: ChatCaller,
    chat: Chat,
    zone: Zone,
) -> Response | Answer:
    """Ask the model; the answer whole, or streamed as server-sent events with `stream: true`."""
    started = await chat.start(caller, _chat_request(message))
    turn = started.turn
    if message.stream:
        return EventStream(turn, lambda event: _event(turn, event))
    end = await whole(turn, request)
    headers = limit_headers(turn)
    if message.stream is None and _EVENT_STREAM in request.headers.get("accept", ""):
        data = _data({"text": turn.text, "message_id": turn.id})
        return Response(data, media_type=_EVENT_STREAM, headers=headers)
    response.headers.update(headers)
    return _answer(turn, end, started.messages, zone)


def _chat_request(message: NewMessage) -> ChatRequest:
    return ChatRequest(
        items=[
            *(SaidItem(role=said.role, text=said.content) for said in message.history or []),
            SaidItem(role="user", text=message.prompt),
        ],
        conversation_id=message.conversation_id,
        user=message.user,
        store=message.store,
        max_tokens=message.max_tokens,
        sampling=SamplingParams(temperature=message.temperature, top_p=message.top_p),
        endpoint=_ENDPOINT,
        parameters=message.model_dump(include={"max_tokens", "temperature", "top_p", "stream", "store"}),
    )


def _answer(turn: LiveTurn, end: TurnEnd, before: Sequence[Message], zone: tzinfo | None) -> Answer:
    said = [*before, Message("assistant", turn.text)]
    return Answer(
        response=turn.text,
        history=[SaidMessage(role=one.role, content=written(one.content, one.tool_calls)) for one in said],
        time=local_time(turn.created_at, zone),
        message_id=turn.id,
        conversation_id=turn.conversation_id,
        usage=_usage(end.usage),
        finish_reason=end.finish_reason or "",
        dropped_turns=turn.dropped_turns,
    )


def _usage(usage: Usage) -> TokenUsage:
    return TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


def _event(turn: LiveTurn, event: TurnEvent) -> bytes:
    if isinstance(event, TextDelta):
        return _data({"text": event.text, "message_id": turn.id}) if event.text else KEEP_ALIVE
    assert isinstance(event, TurnEnd)  # noqa: S101 - this route offers no tools, so that nothing is called
    if event.error is not None:
        return _data({**error_envelope(event.error).model_dump(), "message_id": turn.id})
    last = {
        "text": "",
        "message_id": turn.id,
        "conversation_id": turn.conversation_id,
        "finish_reason": event.finish_reason,
        "usage": _usage(event.usage).model_dump(),
        "dropped_turns": turn.dropped_turns,
    }
    return _data(last)


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
