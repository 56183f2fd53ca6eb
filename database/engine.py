"""SQLAlchemy engines, from arguments alone."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.common.errors import DatabaseUnavailable
from database.driver import SqliteConnection

# How the sessions of a running service are told from those of tools.
SERVICE_NAME = "chatglm-api"
_LAST_USED = "last used"
_TRUSTED_SECONDS = 30.0
# PostgreSQL's, where a URL names none.
_PORT = 5432

# No file of SQLite's, or one that may not be opened.
_UNUSABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PERM}
_MAKE = "put its URL right, or make one by python -m tools.admin database upgrade"
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


def database_url(url: str) -> URL:
    """The URL with the driver this service uses. Raises ValueError, without the URL, if there is none for it."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Their messages may quote a part of it, and with it the password.
        raise ValueError("not the URL of a database: use sqlite:///… or postgresql://…") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ValueError(f"unsupported database {parsed.drivername!r}: use sqlite:///… or postgresql://…")
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in {None, "", ":memory:"}:
            raise ValueError("a database in memory is seen by one process alone: use sqlite:///path")
        if parsed.host or parsed.username:
            raise ValueError(
                "a file has no host: use sqlite:///path, with three slashes, four if it begins at the root"
            )
        parsed = parsed.set(database=str(Path(parsed.database or "").expanduser()))
    elif "@" in f"{parsed.host}{parsed.database}":
        # Half of the password; PostgreSQL would say that there is no database of this name.
        raise ValueError("not the URL of a database: in a password, write @ as %40")
    return parsed.set(drivername=driver)


def same_database(one: str, other: str) -> bool:
    """Whether two URLs lead to one database, whoever logs in and however it is written. Raises ValueError for no URL.

    A server that has two names is not recognised.
    """
    return _place(database_url(one)) == _place(database_url(other))


def _place(url: URL) -> tuple[object, ...]:
    if url.get_backend_name() == "sqlite":
        return (Path(url.database or "").resolve(),)
    return url.host, url.port or _PORT, url.database, url.query.get("host"), url.query.get("port")


def create_engine(
    url: str, *, pool_size: int = 10, timeout: float = 10.0, name: str = SERVICE_NAME, makes_file: bool = False
) -> AsyncEngine:
    """An engine for SQLite or PostgreSQL.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/name`.
        pool_size: PostgreSQL connections at the most, two or more. SQLite gets one: it writes one transaction at a
            time, and a queue here is fair where SQLite's busy handler is not.
        timeout: seconds to wait for a connection, a lock or a statement.
        name: what PostgreSQL shows as `application_name`.
        makes_file: whether SQLite's file is made if it is not there, empty; only what migrates has a use for one.

    Raises DatabaseUnavailable if SQLite's file is not there, is none of SQLite's, or cannot be opened or made.
    """
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, timeout, makes_file=makes_file)
    engine = create_async_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        # What is said, and hashes of keys, have no place in a log.
        hide_parameters=True,
        connect_args={
            "timeout": timeout,
            # The server's own time-outs come first: after its answer, nobody has to guess what was done.
            "command_timeout": timeout * 1.2,
            "server_settings": _session(name, timeout),
        },
    )
    event.listen(engine.sync_engine, "checkin", _note_time)
    event.listen(engine.sync_engine, "checkout", _refuse_dead)
    return engine


def _session(name: str, timeout: float) -> dict[str, str]:
    """What PostgreSQL is told of a session."""
    longest = str(int(timeout * 1000))
    settings = {"application_name": name, "statement_timeout": longest, "lock_timeout": longest}
    if name != SERVICE_NAME:
        # A tool may wait for a disk or a reader between two statements.
        return settings
    # A host that vanishes must not keep its rows locked, nor its sessions.
    keep_alive = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
    return {**settings, "idle_in_transaction_session_timeout": str(int(timeout * 3000)), **keep_alive}


def _note_time(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_LAST_USED] = monotonic()


def _refuse_dead(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    # A server that goes says so, and the driver hears it: that costs nothing to ask. Asking the server itself costs
    # three round trips, and is only worth them where something on the way may have forgotten the connection.
    if connection.driver_connection.is_closed():
        raise DisconnectionError
    if monotonic() - record.info.get(_LAST_USED, monotonic()) > _TRUSTED_SECONDS:
        try:
            connection.ping()
        except Exception as error:
            raise DisconnectionError from error


def _sqlite(url: URL, timeout: float, *, makes_file: bool) -> AsyncEngine:
    path = Path(url.database or "")
    _look_at(path, makes_file=makes_file)
    connect = partial(sqlite3.connect, path, timeout=timeout)
    engine = create_async_engine(
        url,
        pool_size=1,
        max_overflow=0,
        pool_timeout=timeout,
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args={"async_creator_fn": lambda *_, **__: SqliteConnection(connect)},
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "reset", _roll_back_if_open)
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _look_at(path: Path, *, makes_file: bool) -> None:
    try:
        if makes_file:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Everything that is said is in this file: no other user of the machine may read it. SQLite gives its
            # journals the same mode.
            path.touch(mode=0o600)
        else:
            path.stat()
        # By SQLite: its locks on a file are lost when anything else in the process closes it. Here, since a connection
        # that fails in a thread of its own leaves that thread behind.
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            connection.execute("PRAGMA schema_version")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not makes_file:
            raise DatabaseUnavailable(f"There is no database {path}: {_MAKE}") from error
        in_a_file = isinstance(error, NotADirectoryError | FileExistsError)
        raise _unusable(path, "its directory is a file" if in_a_file else error.strerror) from error
    except sqlite3.DatabaseError as error:
        # Anything else, such as a lock, may have passed when it is used.
        if error.sqlite_errorcode & 0xFF in _UNUSABLE:
            raise _unusable(path, str(error)) from error


def _unusable(path: Path, reason: str | None) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"The database's file {path} cannot be used: {reason}.")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes too late: a SELECT would run before it, and check-then-write would not be atomic.
    connection.isolation_level = None
    cursor = connection.cursor()
    _write_ahead(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            # Of two processes that meet a new file at once one is refused, without a wait. For this lock it waits.
            cursor.execute("BEGIN EXCLUSIVE")
            cursor.execute("ROLLBACK")
        else:
            return


def _roll_back_if_open(connection: Any, _record: object, _state: object) -> None:
    # Asked first, since what is done on the connection costs a change of threads.
    if connection.driver_connection.in_transaction:
        connection.rollback()


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction that later writes fails with "database is locked" at once, whatever the time-out.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
