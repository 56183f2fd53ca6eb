"""What the drivers say when the database is away, hangs, is full or forbids, as callers are told it."""

import errno
import sqlite3

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.common.errors import (
    AppError,
    DatabaseForbids,
    DatabaseUnavailable,
    Deadlocked,
    OutcomeUnknown,
    ReadOnly,
    StorageFull,
    Unavailable,
)
from database.read_only import refuses_writes

# SQLSTATE classes: connection, no such login or database, rolled back (deadlock), no resources, time-out or shutdown,
# lock not available, idle for too long inside a transaction.
_PASSING = ("08", "28", "3D", "40", "53", "55P03", "57", "25P03")
_DISK_FULL = "53100"
_DEADLOCK = "40P01"
# No such login, no such database: what PostgreSQL says of these names a role, a host or a database, never a password.
_LOGIN_REFUSED = ("28", "3D")
# Of all that has SQLSTATE 42501, what a GRANT would allow: a broken policy and a change of the audit log have it too.
_RIGHTS = "aclcheck_error"
GRANTS = (
    "Migrate as the owner that database/roles.sql makes (CHATGLM_MIGRATION_DATABASE_URL); for tables that another role "
    'made, the README has the GRANTs, under "PostgreSQL".'
)
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
    """What callers are told of an error of the database: an AppError. Any other error is a defect, and stays."""
    answer = _told(error)
    if isinstance(answer, AppError) and (said := _said(error)) is not None:
        answer.reason = said
    return answer


def _said(error: Exception) -> str | None:
    """What PostgreSQL said, if that helps whoever administers it and repeats nothing that was stored or secret."""
    server = _server_error(error)
    if server is None:
        return None
    # Not its details, which may have values of rows.
    message = str(server.args[0])
    if _lacks_rights(server):
        return f"{message}. {GRANTS}"
    return f"{message}." if str(server.sqlstate).startswith(_LOGIN_REFUSED) else None


def _server_error(error: Exception) -> asyncpg.PostgresError | None:
    if isinstance(error, DBAPIError):
        error = getattr(error.orig, "__cause__", None) or error
    return error if isinstance(error, asyncpg.PostgresError) else None


def _lacks_rights(error: asyncpg.PostgresError | None) -> bool:
    # By the place in its source: the words are in the server's language.
    return isinstance(error, asyncpg.InsufficientPrivilegeError) and str(error.server_source_function).startswith(
        _RIGHTS
    )


def _told(error: Exception) -> Exception:
    if _lacks_rights(_server_error(error)):
        return DatabaseForbids()
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
