"""What a turn's end writes (T2): a value of its own, so that it can be tried again, and kept in a file meanwhile."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from database.clock import now
from database.models import TurnStatus
from services.limit_window import windows
from services.live_turn import LiveTurn
from services.said_item import SaidItem, answer_items, item_rows
from services.turn_end import TurnEnd, Usage
from services.turn_opening import TurnOpening

_MILLISECOND = timedelta(milliseconds=1)


class Settlement(Struct, frozen=True, kw_only=True):
    """How a turn ended. Written twice, it is the same: `finished_at` and the state tell whose end a turn has.

    Attributes:
        conversation_id: None where only numbers are kept.
        text: what the log keeps of the answers.
        error: stable code, of a failed turn.
        charged_at: the time whose minute, day and month limits were charged.
        limit_subject: what the limits of the key are kept under; None, in files of older versions, for its id.
        reserved_tokens: what they were charged.
        items: what becomes part of the conversation, or of a stored turn, in order.
        first: the position of the first of them.
        said: whether the conversation goes on from here.
        resumable: whether its text was written while it ran.
    """

    tenant_id: str
    turn_id: str
    key_id: str
    model: str
    conversation_id: str | None
    status: TurnStatus
    text: str
    finish_reason: str | None
    error: str | None
    usage: Usage
    created_at: datetime
    first_token_at: datetime | None
    finished_at: datetime
    charged_at: datetime
    reserved_tokens: int
    items: tuple[SaidItem, ...]
    first: int
    said: bool
    resumable: bool
    limit_subject: str | None = None

    def values(self) -> dict[str, Any]:
        """The parameters of the statement that ends the turn, its items aside."""
        return {
            "turn_id": self.turn_id,
            "conversation_id": self.conversation_id,
            "response": self.text,
            "finish_reason": self.finish_reason,
            "error": self.error,
            **counted(
                self.status,
                self.usage,
                created_at=self.created_at,
                first_token_at=self.first_token_at,
                finished_at=self.finished_at,
            ),
            **uncharged(self.reserved_tokens, self.charged_at, self.usage),
            "key_id": self.key_id,
            "limit_subject": self.limit_subject or self.key_id,
            "model": self.model,
            "said_items": len(self.items),
        }

    def item_rows(self) -> list[dict[str, Any]]:
        """The columns of the items."""
        conversation_id = self.conversation_id if self.said else None
        owner = {"conversation_id": conversation_id, "turn_id": self.turn_id, "created_at": self.finished_at}
        return item_rows(self.items, self.first, **owner)


def settlement(turn: LiveTurn, opening: TurnOpening, end: TurnEnd) -> Settlement:
    """The end of a turn that ends now."""
    text = turn.text
    said = turn.conversation_id is not None and _is_said(end, text)
    items: tuple[SaidItem, ...] = ()
    if said or opening.stored:
        items = (*opening.items, *answer_items(turn.id, turn.answers, end.finish_reasons))
    return Settlement(
        tenant_id=opening.principal.tenant_id,
        turn_id=turn.id,
        key_id=opening.principal.key_id,
        model=opening.model,
        conversation_id=turn.conversation_id,
        status=end.status,
        # It may wait in a file, which holds no more than the rows would.
        text=text if opening.keeps_text else "",
        finish_reason=end.finish_reason,
        error=end.error.code if end.error is not None and end.status == TurnStatus.FAILED else None,
        usage=end.usage,
        created_at=turn.created_at,
        first_token_at=turn.first_token_at,
        finished_at=now(),
        charged_at=turn.charged_at or turn.created_at,
        reserved_tokens=turn.prompt_tokens + opening.max_tokens,
        items=items,
        # While a turn runs nothing is added to its conversation by anybody else.
        first=opening.length if said else 0,
        said=said,
        resumable=turn.resumable,
        limit_subject=opening.principal.limit_subject,
    )


def _is_said(end: TurnEnd, text: str) -> bool:
    # A turn that failed, or was cancelled before a word, is asked again: its prompt must not stand there twice.
    return end.status == TurnStatus.COMPLETED or (end.status == TurnStatus.CANCELLED and text != "")


def uncharged(reserved: int, at: datetime, usage: Usage) -> dict[str, Any]:
    """What of its charge a turn gives back that runs no longer, and to which windows."""
    unused = reserved - usage.prompt_tokens - usage.completion_tokens
    return {"unused_tokens": unused, "ended_turns": 1, **windows(at)}


def late_values(usage: Usage) -> dict[str, Any]:
    """What is added to a turn that was counted, and given back, as one that had said nothing."""
    nothing = ("requests", "cancelled", "failed", "prompt_tokens", "first_token_ms", "duration_ms", "ended_turns")
    return {**dict.fromkeys(nothing, 0), "unused_tokens": -usage.completion_tokens}


def counted(
    status: TurnStatus, usage: Usage, *, created_at: datetime, first_token_at: datetime | None, finished_at: datetime
) -> dict[str, Any]:
    """What a turn that ended is in the log, and what it adds to its day."""
    completed = status == TurnStatus.COMPLETED
    first = (first_token_at or finished_at) - created_at
    return {
        "status": status.value,
        "first_token_at": first_token_at,
        "finished_at": finished_at,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "day": created_at.date(),
        "requests": 1,
        "cancelled": int(status == TurnStatus.CANCELLED),
        "failed": int(status in {TurnStatus.FAILED, TurnStatus.INTERRUPTED}),
        "first_token_ms": first // _MILLISECOND if completed else 0,
        "duration_ms": (finished_at - created_at) // _MILLISECOND if completed else 0,
    }
