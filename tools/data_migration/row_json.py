"""Rows as JSON objects, and back: exactly, whatever columns there are."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import JSON, Boolean, Column, Integer, String, Table, inspect

from database.models import Base
from database.models.base import ID_LENGTH, UtcDateTime
from database.tenancy import TENANT
from tools.data_migration.record import Unreadable

# PostgreSQL stores no NUL, and UTF-8 no half of a surrogate pair.
_UNSTORABLE = re.compile(r"[\0\ud800-\udfff]")
Model = TypeVar("Model", bound=Base)
_KINDS: dict[type[Any], type[Any]] = {String: str, Boolean: bool, Integer: int, UtcDateTime: str}


def to_json(row: Base) -> dict[str, Any]:
    """All columns but the tenant, in their order; times in UTC, to the microsecond."""
    return {column.name: _plain(getattr(row, column.name)) for column in _columns(type(row))}


def from_json(model: type[Model], values: Any, renamed: Callable[[str], str]) -> Model:
    """A row of these values; `renamed` gives its ids others. Raises Unreadable, also for a column too many or few."""
    if not isinstance(values, Mapping):
        raise Unreadable(f"a row of {model.__tablename__} is not an object")
    columns = {column.name: column for column in _columns(model)}
    if unknown := values.keys() - columns.keys():
        raise Unreadable(f"{model.__tablename__} has no column {', '.join(sorted(unknown))}")
    if missing := columns.keys() - values.keys():
        raise Unreadable(f"a row of {model.__tablename__} lacks {', '.join(sorted(missing))}")
    return model(**{name: _value(columns[name], value, renamed) for name, value in values.items()})


def _columns(model: type[Base]) -> list[Column[Any]]:
    table = inspect(model).local_table
    assert isinstance(table, Table)  # noqa: S101 - what a model is mapped to
    return [column for column in table.columns if column.name != TENANT]


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def _value(column: Column[Any], value: Any, renamed: Callable[[str], str]) -> Any:
    if isinstance(column.type, JSON):
        return value
    if value is None:
        if not column.nullable:
            raise Unreadable(f"{column} is null")
        return None
    expected = next(kind for type_, kind in _KINDS.items() if isinstance(column.type, type_))
    if type(value) is not expected:
        raise Unreadable(f"{column} is not of type {expected.__name__}")
    if isinstance(column.type, UtcDateTime):
        return _time(column, value)
    if isinstance(column.type, String):
        _check_text(column, value)
        return renamed(value) if _is_id(column) else value
    return value


def _is_id(column: Column[Any]) -> bool:
    return column.name.endswith("id") and getattr(column.type, "length", None) == ID_LENGTH


def _time(column: Column[Any], value: str) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise Unreadable(f"{column} is not a time") from error
    if at.tzinfo is None:
        raise Unreadable(f"{column} has no zone")
    return at


def _check_text(column: Column[Any], value: str) -> None:
    length = getattr(column.type, "length", None)
    if length is not None and len(value) > length:
        raise Unreadable(f"{column} is longer than {length} characters")
    check_storable(value)


def check_storable(text: str) -> None:
    """Raise Unreadable for what no database here can hold."""
    if found := _UNSTORABLE.search(text):
        raise Unreadable(f"it holds U+{ord(found.group()):04X}, which cannot be stored")
