"""Rows in a form that SQLite and PostgreSQL share: text, bytes, whole numbers, floats and None.

The form is SQLite's own. The databases convert, not Python: a million rows need no code of ours for each value.
"""

from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Double,
    Float,
    Integer,
    LargeBinary,
    String,
    Text,
    case,
    cast,
    func,
    type_coerce,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from database.clock import EPOCH

Value: TypeAlias = str | bytes | int | float | None
Row: TypeAlias = tuple[Value, ...]

_SECONDS = len("2026-11-22 10:00:00")
# What a time in text looks like to PostgreSQL.
_MICROSECONDS = "YYYY-MM-DD HH24:MI:SS.US"
_FIRST, _LAST = "0001-01-01 00:00:00.000000", "9999-12-31 23:59:59.999999"


def portable_type(column: Column[Any]) -> TypeEngine[Any]:
    """What a column's portable values are. Raises TypeError for a column whose form nobody has decided."""
    kind = _kind(column)
    if isinstance(kind, String | Date | DateTime | JSON):
        return Text()
    if isinstance(kind, Boolean | Integer):
        return BigInteger()
    if isinstance(kind, Float):
        return Double()
    if isinstance(kind, LargeBinary):
        return LargeBinary()
    raise TypeError(f"{column}: {kind!r} has no portable form")


def portable(column: Column[Any], dialect: str) -> ColumnElement[Any]:
    """A column as its portable value, read on a database of this dialect."""
    kind = _kind(column)
    if dialect == "sqlite":
        raw = type_coerce(column, portable_type(column))
        if isinstance(kind, DateTime):
            # SQL that was typed by hand may have left out the fraction.
            return case((func.length(raw) == _SECONDS, raw + ".000000"), else_=raw)
        return raw
    if isinstance(kind, DateTime):
        written = func.to_char(func.timezone("UTC", type_coerce(column, DateTime())), _MICROSECONDS)
        # The driver keeps the first and the last time as infinities, which to_char writes as NULL: a key that ended
        # would be copied as one that never does.
        first_or_last = case((column < EPOCH, _FIRST), (column > EPOCH, _LAST))
        return func.coalesce(written, first_or_last)
    if isinstance(kind, Boolean):
        return cast(column, Integer)
    return cast(column, Text) if isinstance(kind, JSON | Date) else type_coerce(column, portable_type(column))


def stored(value: ColumnElement[Any], column: Column[Any], dialect: str) -> ColumnElement[Any]:
    """A portable value as the column holds it, written on a database of this dialect."""
    if dialect == "sqlite":
        return value
    kind = _kind(column)
    if isinstance(kind, DateTime):
        return cast(value + "+00", DateTime(timezone=True))
    if isinstance(kind, Boolean):
        return value != 0
    if isinstance(kind, JSON):
        return cast(value, JSON)
    return cast(value, Date) if isinstance(kind, Date) else value


def array_of(column: Column[Any]) -> ARRAY[Any]:
    """For PostgreSQL: the type of a list of this column's portable values."""
    return ARRAY(portable_type(column))


def _kind(column: Column[Any]) -> TypeEngine[Any]:
    return column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
