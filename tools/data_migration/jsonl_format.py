"""This service's own format: a line for each conversation, or turn in none, with every column of every row."""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from database.models import Base, Conversation, Item, Turn, TurnStatus, TurnText
from database.repositories.export_repository import Bundle
from tools.data_migration.lines import lines, text_of
from tools.data_migration.record import Record, Rejected, Unreadable
from tools.data_migration.row_json import from_json, to_json

_MODELS: dict[str, type[Base]] = {"turns": Turn, "texts": TurnText, "items": Item}
_FIELDS = {"keys", "conversation", *_MODELS}


def line(bundle: Bundle) -> bytes:
    """A bundle as a line."""
    keys = sorted({turn.key_id for turn in bundle.turns})
    written = {
        "keys": [{"id": key, "name": bundle.key_names[key]} for key in keys],
        "conversation": None if bundle.conversation is None else to_json(bundle.conversation),
        "turns": [to_json(row) for row in bundle.turns],
        "texts": [to_json(row) for row in bundle.texts],
        "items": [to_json(row) for row in bundle.items],
    }
    return msgspec.json.encode(written) + b"\n"


def read(file: BinaryIO, renamed: Callable[[str], str]) -> Iterator[Record | Rejected]:
    """Records, in order; `renamed` gives ids others."""
    for number, raw in lines(file):
        if not raw.strip():
            continue
        try:
            yield _record(number, raw, renamed)
        except Unreadable as error:
            yield Rejected(number, str(error), raw)


def _record(number: int, raw: bytes, renamed: Callable[[str], str]) -> Record:
    values = decoded(raw)
    if not isinstance(values, dict) or values.keys() != _FIELDS:
        raise Unreadable(f"it is not an object of {', '.join(sorted(_FIELDS))}")
    rows: list[Base] = []
    if values["conversation"] is not None:
        rows.append(from_json(Conversation, values["conversation"], renamed))
    for name, model in _MODELS.items():
        rows += [from_json(model, row, renamed) for row in _list(values, name)]
    if any(isinstance(row, Turn) and row.status == TurnStatus.RUNNING for row in rows):
        raise Unreadable("a turn of it runs, and nobody would ever end it here")
    return Record(number, raw, rows, dict(_key(key, renamed) for key in _list(values, "keys")))


def _key(key: Any, renamed: Callable[[str], str]) -> tuple[str, str]:
    match key:
        case {"id": str(key_id), "name": str(name)} if len(key) == 2:
            return renamed(key_id), name
    raise Unreadable("a key is not an object of id and name")


def _list(values: dict[str, Any], name: str) -> list[Any]:
    listed = values[name]
    if not isinstance(listed, list):
        raise Unreadable(f"{name} is not a list")
    return listed


def decoded(raw: bytes) -> Any:
    """The line as JSON. Raises Unreadable."""
    text = text_of(raw)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"it is not JSON: {error}") from error
