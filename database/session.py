"""The only door to the database, and the only commit in the code base."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

from sqlalchemy import literal, select
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.pool import QueuePool

from database.driver import DriverTransaction, PostgresTransaction, Rows, SqliteConnection, SqliteTransaction
from database.endings import Endings
from database.outage import ConnectionLost, told
from database.prepared import Prepared
from database.shared_statements import SharedStatements
from database.sqlite_log import SqliteLog
from database.tenancy import TENANT, GuardedSession, TenantViolation
from database.tenant_connections import TenantConnections

__all__ = ["Database", "TenantViolation"]

# Transactions of SQLite that are committed together: a bound on how long the first of them waits.
_MOST_SHARED = 64


class Database:
    """Short transactions, each for one tenant or for the global tables."""

    def __init__(self, engine: AsyncEngine, took: Callable[[float], object] = lambda _seconds: None) -> None:
        """`took` is told of each transaction how long it took, with the wait for a connection."""
        self._engine = engine
        self._took = took
        self._sessions = async_sessionmaker(engine, expire_on_commit=False, sync_session_class=GuardedSession)
        self._endings = Endings()
        self._writer = _SqliteWriter(engine, self._endings) if engine.dialect.name == "sqlite" else None
        self._log = SqliteLog(engine) if self._writer else None
        self._connections = None if self._writer else TenantConnections(engine)
        self._shared = None if self._connections is None else SharedStatements(self._connections, self._endings)

    @asynccontextmanager
    async def begin(self, tenant_id: str) -> AsyncIterator[AsyncSession]:
        """A transaction that sees and writes this tenant's content alone; committed on leaving, rolled back on error.

        Raises Unavailable when the database refuses, times out or is gone.
        """
        async with self._transaction() as session:
            session.sync_session.info[TENANT] = tenant_id
            yield session

    @asynccontextmanager
    async def begin_global(self) -> AsyncIterator[AsyncSession]:
        """A transaction for the tables without content (tenants, keys, leases); content raises TenantViolation."""
        async with self._transaction() as session:
            yield session

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        with _Measured(self._took):
            session = self._sessions()
            try:
                yield session
                await session.commit()
            finally:
                await self._endings.run(session.close())

    @asynccontextmanager
    async def begin_prepared(self, tenant_id: str) -> AsyncIterator[DriverTransaction]:
        """Like `begin`, for statements that were prepared: for what every turn does."""
        with _Measured(self._took):
            if self._writer is not None:
                async with self._writer.begin(tenant_id) as shared:
                    yield shared
            elif self._connections is not None:
                async with self._connections.of(tenant_id) as connection:
                    transaction = PostgresTransaction(connection, tenant_id)
                    await transaction.begin()
                    yield transaction
                    await transaction.commit()

    async def run_prepared(self, tenant_id: str, given: Mapping[str, Any], group: Prepared) -> Rows:
        """One group of statements, committed when this returns: on PostgreSQL a single round trip."""
        if self._shared is not None:
            with _Measured(self._took):
                return await self._shared.run(tenant_id, given, group)
        async with self.begin_prepared(tenant_id) as transaction:
            (rows,) = await transaction.run(given, group)
        return rows

    @property
    def connections_in_use(self) -> int:
        """By a transaction, at this moment."""
        kept = self._connections.idle if self._connections is not None else 0
        return cast("QueuePool", self._engine.pool).checkedout() - kept

    async def ping(self) -> None:
        """Raises Unavailable unless the database answers."""
        async with self.begin_global() as session:
            await session.execute(select(literal(1)))

    async def empty_log(self) -> None:
        """After an erasure: SQLite's log repeats what was deleted. While another process reads, the log stays as it is.

        Nothing is done on PostgreSQL, which keeps its log to itself and its administrators.
        """
        if self._log is not None:
            await self._log.empty()

    async def close(self) -> None:
        """Give every connection back, when the transactions that are about to end have ended."""
        await self._endings.wait()
        if self._connections is not None:
            await self._connections.close()
        await self._engine.dispose()


class _Measured:
    """Takes the time of a transaction; its errors leave as callers are told them."""

    def __init__(self, took: Callable[[float], object]) -> None:
        self._took = took

    def __enter__(self) -> None:
        self._began = monotonic()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._took(monotonic() - self._began)
        if isinstance(error, Exception) and (answer := told(error)) is not error:
            raise answer from (error.__cause__ if isinstance(error, ConnectionLost) else error)


@dataclass(slots=True)
class _Shared:
    """A transaction of SQLite that several share; `done` when it is committed, or lost."""

    connection: AsyncConnection
    driver: SqliteConnection
    done: asyncio.Future[None]
    parts: int = 0


class _SqliteWriter:
    """Lets transactions in one after another, and commits those that wait for each other together.

    A commit waits for the disk. Of 64 turns that begin at once, each on its own, the last would wait 64 times.
    """

    def __init__(self, engine: AsyncEngine, endings: Endings) -> None:
        self._engine = engine
        self._endings = endings
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._shared: _Shared | None = None

    @asynccontextmanager
    async def begin(self, tenant_id: str) -> AsyncIterator[DriverTransaction]:
        """A part of a transaction. When this ends without an error, all of it is committed."""
        shared = await self._enter()
        part = SqliteTransaction(shared.driver, tenant_id)
        try:
            yield part
        except BaseException:
            await self._endings.run(self._leave(shared, part, undo=True))
            raise
        # A caller that is cancelled meanwhile must not take the turn along.
        await self._endings.run(self._leave(shared, part, undo=False))
        await asyncio.shield(shared.done)

    async def _enter(self) -> _Shared:
        self._waiting += 1
        try:
            async with asyncio.timeout(cast("QueuePool", self._engine.pool).timeout()):
                await self._turn.acquire()
        except BaseException as error:
            # Whoever was before may have counted on this one to commit.
            self._endings.start(self._end_unwanted())
            if not isinstance(error, TimeoutError):
                raise
            raise PoolTimeout("there were too many before") from error
        finally:
            self._waiting -= 1
        try:
            self._shared = self._shared or await self._open()
            return self._shared
        except BaseException:
            self._turn.release()
            raise

    async def _open(self) -> _Shared:
        connection = await self._engine.connect()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody may be left to hear of an error.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        return _Shared(connection, await _driver(connection), done)

    async def _leave(self, shared: _Shared, part: SqliteTransaction, *, undo: bool) -> None:
        try:
            async with self._lost_together(shared):
                if undo:
                    await part.rollback()
                shared.parts += 1
                if self._waiting == 0 or shared.parts >= _MOST_SHARED:
                    await self._commit(shared)
        finally:
            self._turn.release()

    async def _end_unwanted(self) -> None:
        async with self._turn:
            shared = self._shared
            if shared is not None and self._waiting == 0:
                async with self._lost_together(shared):
                    await self._commit(shared)

    @asynccontextmanager
    async def _lost_together(self, shared: _Shared) -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - all that share it hear of it
            await _undo(shared.connection, shared.driver.rollback)
            await self._close(shared, error)

    async def _commit(self, shared: _Shared) -> None:
        await shared.driver.commit()
        await self._close(shared, None)

    async def _close(self, shared: _Shared, error: BaseException | None) -> None:
        self._shared = None
        if shared.done.done():
            # Committed; what came after it was an error of giving the connection back.
            return
        if error is None:
            shared.done.set_result(None)
        else:
            shared.done.set_exception(error)
        await shared.connection.close()


async def _driver(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection


async def _undo(connection: AsyncConnection, rollback: Callable[[], Awaitable[None]]) -> None:
    try:
        await rollback()
    except BaseException:  # noqa: BLE001 - whatever came between, nobody may get a connection inside a transaction
        await connection.invalidate()
