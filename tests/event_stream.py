"""Event streams as clients read them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One event: its id, and its JSON."""

    id: str | None
    data: dict[str, Any]


def events(body: str) -> list[Event]:
    """The whole events of a stream, wherever it was cut."""
    whole, _, _ = body.rpartition("\n\n")
    found = []
    for block in whole.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and line[0] != ":")
        if "data" in fields:
            found.append(Event(fields.get("id"), json.loads(fields["data"])))
    return found


def text(heard: Sequence[Event]) -> str:
    """What a client that concatenates has."""
    return "".join(event.data.get("text", "") for event in heard)


def seen_all(heard: Sequence[Event]) -> bool:
    """Whether these events end with the last one."""
    return bool(heard) and str(heard[-1].id).endswith("-end")
