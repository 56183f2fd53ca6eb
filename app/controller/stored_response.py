"""A response as it is shown again: from the rows of its turn."""

from typing import Any

from app.controller.item_view import output_view
from app.controller.response_answer import SERVER_ERROR, response_object, response_usage, shown_id
from database.models import Turn, TurnStatus
from schemas.response_schema import (
    IncompleteDetails,
    ResponseFailure,
    ResponseObject,
    ResponseStatus,
    ResponseUsage,
)
from services.response_service import StoredResponse
from services.turn_end import Usage

_STATUSES: dict[str, ResponseStatus] = {
    TurnStatus.RUNNING: "in_progress",
    TurnStatus.COMPLETED: "completed",
    TurnStatus.CANCELLED: "cancelled",
    TurnStatus.FAILED: "failed",
    TurnStatus.INTERRUPTED: "failed",
}
_FAILURES = {
    TurnStatus.FAILED: ResponseFailure(code=SERVER_ERROR, message="The answer could not be made."),
    TurnStatus.INTERRUPTED: ResponseFailure(code=SERVER_ERROR, message="The turn was interrupted before it ended."),
}


def shown(stored: StoredResponse) -> ResponseObject:
    """The response."""
    turn = stored.turn
    cut = turn.finish_reason == "length"
    previous = turn.previous_id
    return response_object(
        turn.id,
        turn.created_at,
        turn.parameters,
        conversation_id=turn.conversation_id,
        previous_response_id=previous and shown_id(previous),
        status="incomplete" if cut else _STATUSES[turn.status],
        incomplete_details=IncompleteDetails(reason="max_output_tokens") if cut else None,
        error=_FAILURES.get(TurnStatus(turn.status)),
        model=turn.model,
        store=True,
        metadata=turn.labels,
        user=turn.user,
        output=[output_view(item) for item in stored.output],
        usage=_usage(turn),
    )


def unsaid(stored: StoredResponse) -> ResponseObject:
    """The response before anything was said."""
    blank: dict[str, Any] = {"incomplete_details": None, "error": None, "output": [], "usage": None}
    return shown(stored).model_copy(update={"status": "in_progress", **blank})


def _usage(turn: Turn) -> ResponseUsage | None:
    if turn.status == TurnStatus.RUNNING:
        return None
    return response_usage(
        Usage(
            prompt_tokens=turn.prompt_tokens,
            cached_tokens=turn.cached_tokens,
            completion_tokens=turn.completion_tokens,
        )
    )
