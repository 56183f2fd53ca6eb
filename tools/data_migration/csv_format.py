"""A line for each turn, for spreadsheets; nothing in it is a formula."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from database.repositories.export_repository import LoggedTurn
from services.csv_cell import cell

COLUMNS = (
    "message_id",
    "conversation_id",
    "created_at",
    "user",
    "model",
    "endpoint",
    "status",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "prompt",
    "response",
)
# Excel takes a file without it for the machine's own encoding.
HEAD = "\ufeff"


def line(values: Sequence[Any]) -> bytes:
    """A line of these cells."""
    written = io.StringIO()
    csv.writer(written).writerow([cell(value) for value in values])
    return written.getvalue().encode()


def cells(logged: LoggedTurn) -> list[Any]:
    """A turn's."""
    turn, text = logged.turn, logged.text
    said = (None, None) if text is None else (text.prompt, text.response)
    return [
        turn.id,
        turn.conversation_id,
        turn.created_at.isoformat(timespec="seconds"),
        turn.user,
        turn.model,
        turn.endpoint,
        turn.status,
        turn.finish_reason,
        turn.prompt_tokens,
        turn.completion_tokens,
        *said,
    ]
