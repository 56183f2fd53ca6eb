"""What the log tells of an exception: where it was raised, and its text only where that repeats nothing of callers."""

import sqlite3
import traceback
from collections.abc import Iterator
from types import TracebackType

from app.common.errors import AppError

_BETWEEN = {
    True: "The exception above was the cause of this one:",
    False: "While the exception above was handled, this one was raised:",
}
# Of each exception, from the innermost on: a recursion has thousands.
_FRAMES = 50
# Their words are the interpreter's or SQLite's about this process, not about what it was sent. A ValueError's quote it,
# and so do PostgreSQL's details and pydantic's.
_OF_THE_PROCESS = {RuntimeError, AssertionError, sqlite3.OperationalError}


def traceback_text(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    """The exception with those that led to it, oldest first, as lines."""
    return "\n".join(_chain(exc_info[1], set()))


def _chain(error: BaseException, told: set[int]) -> Iterator[str]:
    told.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in told:
        yield from _chain(before, told)
        yield _BETWEEN[error.__cause__ is not None]
    yield "Traceback (most recent call last):"
    yield from (line.rstrip() for line in traceback.format_tb(error.__traceback__, limit=-_FRAMES))
    yield _name(error) + (f": {error}" if _may_be_told(error) else "")
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from (f"  | {line}" for line in _chain(part, told))


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _may_be_told(error: BaseException) -> bool:
    if isinstance(error, AppError):
        return error.status >= 500
    # A device that is lost or full is told by torch.
    from_torch = type(error).__module__.partition(".")[0] == "torch"
    return isinstance(error, OSError) or type(error) in _OF_THE_PROCESS or from_torch
