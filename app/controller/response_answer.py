"""A response, as `/v1/responses` gives it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.common.errors import AppError
from app.controller.response_items import row_id
from app.controller.response_request import settings
from schemas.response_request_schema import ResponseRequest
from schemas.response_schema import (
    IncompleteDetails,
    InputTokensDetails,
    OutputItem,
    ResponseFailure,
    ResponseObject,
    ResponseUsage,
)
from services.chat_service import StartedTurn
from services.turn_end import TurnEnd, Usage

# OpenAI's names for what went wrong with responses.
SERVER_ERROR, _INVALID_PROMPT = "server_error", "invalid_prompt"


def shown_id(turn_id: str) -> str:
    """The name of a turn on these routes."""
    return f"resp_{turn_id}"


def begun(started: StartedTurn, body: ResponseRequest) -> ResponseObject:
    """A response of which there is nothing yet."""
    turn = started.turn
    return response_object(
        turn.id,
        turn.created_at,
        settings(body),
        model=body.model,
        store=started.stored,
        previous_response_id=body.previous_response_id and shown_id(row_id(body.previous_response_id)),
        conversation_id=turn.conversation_id,
        metadata=body.metadata or {},
        user=body.user,
    )


def response_object(
    turn_id: str, created_at: datetime, given: dict[str, Any], *, conversation_id: str | None, **fields: Any
) -> ResponseObject:
    """A response with these settings, as far as they were given, and these fields."""
    shown = {name: value for name, value in given.items() if name in ResponseObject.model_fields}
    if not shown.get("text", {}).get("format"):
        shown.pop("text", None)
    conversation = None if conversation_id is None else {"id": f"conv_{conversation_id}"}
    return ResponseObject.model_validate(
        {
            **shown,
            **fields,
            "id": shown_id(turn_id),
            "created_at": int(created_at.timestamp()),
            "conversation": conversation,
        }
    )


def ended(response: ResponseObject, end: TurnEnd, output: Sequence[OutputItem]) -> ResponseObject:
    """The same when its turn has ended."""
    cut = end.finish_reason == "length"
    changes: dict[str, Any] = {
        "status": "failed" if end.error is not None else "incomplete" if cut else "completed",
        "incomplete_details": IncompleteDetails(reason="max_output_tokens") if cut else None,
        "error": None if end.error is None else _failure(end.error),
        "output": list(output),
        "usage": response_usage(end.usage),
    }
    return response.model_copy(update=changes)


def response_usage(usage: Usage) -> ResponseUsage:
    """What a turn has used."""
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


def _failure(error: AppError) -> ResponseFailure:
    return ResponseFailure(code=SERVER_ERROR if error.status >= 500 else _INVALID_PROMPT, message=error.message)
