"""What the drivers say when the database is away, hangs or is full, as callers are told it."""

import errno
import sqlite3

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.common.errors import DatabaseUnavailable, Deadlocked, OutcomeUnknown, ReadOnly, StorageFull, Unavailable
from database.read_only import refuses_writes

# SQLSTATE classes: connection, no such login or database, rolled back (deadlock), no resources, time-out or shutdown,
# lock not available, idle for too long inside a transaction.
_PASSING = ("08", "28", "3D", "40", "53", "55P03", "57", "25P03")
_DISK_FULL = "53100"
_DEADLOCK = "40P01"
# The server ends the session, whatever it was doing.
_SESSION_ENDED = ("08", "57P", "25P03")
_UNREACHABLE = (
    OperationalError,
    InterfaceError,
    PoolTimeout,
    sqlite3.OperationalError,
    asyncpg.InterfaceError,
    # A connection that the server cut in the middle of a word.
    asyncpg.InternalClientError,
    # What asyncpg's command_timeout raises is one of these.
    OSError,
)


class ConnectionLost(Exception):
    """A connection broke, or did not answer in time, while something was asked of it."""


def is_lost(error: BaseException) -> bool:
    """Whether nobody knows in what state an error on PostgreSQL's driver has left the connection, and the transaction.

    Any other error is the server's answer: it has taken the transaction back.
    """
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_SESSION_ENDED)
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError):
        return True
    # Whoever waited was cancelled in the middle of something.
    return not isinstance(error, Exception)


def told(error: Exception) -> Exception:
    """What callers are told of an error of the database: an Unavailable. Any other error is a defect, and stays."""
    if isinstance(error, ConnectionLost):
        return OutcomeUnknown("The database did not answer; try again.", retry_after=1)
    if isinstance(error, _UNREACHABLE):
        return _answer(error, getattr(error, "orig", error))
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or _is_passing(error.orig) or refuses_writes(error.orig):
            return _answer(error, error.orig)
    elif isinstance(error, asyncpg.PostgresError) and (_is_passing(error) or refuses_writes(error)):
        return _answer(error, error)
    return error


def _answer(error: BaseException, cause: BaseException | None) -> Unavailable:
    if refuses_writes(cause):
        return ReadOnly("The database is being copied, and read-only until that is done; try again.", retry_after=10)
    if _is_full(cause):
        return StorageFull("The database has no room left; nothing can be stored until it has.", retry_after=30)
    if getattr(cause, "sqlstate", None) == _DEADLOCK:
        return Deadlocked("The database cannot answer now; try again.", retry_after=1)
    away = isinstance(error, _UNREACHABLE)
    return DatabaseUnavailable(
        f"The database {'cannot be reached' if away else 'cannot answer now'}; try again.", retry_after=1
    )


def _is_full(cause: BaseException | None) -> bool:
    # SQLite says so where it may not write as much as it wants; its files' system where the disk is full.
    return (
        getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        or getattr(cause, "sqlstate", None) == _DISK_FULL
        or getattr(cause, "errno", None) == errno.ENOSPC
    )


def _is_passing(error: BaseException | None) -> bool:
    """Whether PostgreSQL says that the statement was right but the moment was not. SQLite has OperationalError."""
    return str(getattr(error, "sqlstate", None) or "").startswith(_PASSING)
