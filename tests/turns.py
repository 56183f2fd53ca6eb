"""Turns for tests, as the services pass them to each other."""

from typing import Any

from database.clock import now
from database.identifier import new_id
from database.models import TurnStatus
from services.answer_delta import TextDelta
from services.live_turn import LiveTurn
from services.principal import Principal
from services.said_item import SaidItem
from services.turn_end import TurnEnd, Usage
from services.turn_opening import TurnOpening


def a_live_turn(conversation_id: str | None = None, text: str = "", **columns: Any) -> LiveTurn:
    """A turn that has said `text` so far; in a conversation of its own unless one is named."""
    at = now()
    defaults: dict[str, Any] = {"id": new_id(at), "conversation_id": conversation_id or new_id(at), "created_at": at}
    turn = LiveTurn(**defaults | {"prompt_tokens": 5} | columns)
    turn.append([TextDelta(text)] if text else [])
    return turn


def an_opening(principal: Principal, **columns: Any) -> TurnOpening:
    """Of a new conversation, unless `seen_length` says otherwise."""
    defaults: dict[str, Any] = {
        "principal": principal,
        "prompt": "a question",
        "history": [],
        "items": [SaidItem(role="user", text=columns.get("prompt", "a question"))],
        "seen_length": None,
        "user": None,
        "endpoint": "/chat/new/message/",
        "model": "a-model",
        "parameters": {"temperature": 1.0},
        "max_tokens": 10,
    }
    return TurnOpening(**defaults | columns)


def an_end(status: TurnStatus = TurnStatus.COMPLETED, **columns: Any) -> TurnEnd:
    usage = Usage(prompt_tokens=5, cached_tokens=2, completion_tokens=7)
    defaults: dict[str, Any] = {"status": status, "usage": usage}
    return TurnEnd(**defaults | columns)
