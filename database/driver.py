"""Transactions on the driver itself, without SQLAlchemy between: for what every turn does."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import aiosqlite
import asyncpg
from sqlalchemy.exc import IntegrityError

from database.prepared import NUMBER, Prepared

Result = TypeVar("Result")
Rows: TypeAlias = Sequence[Sequence[Any]]


class SqliteConnection(aiosqlite.Connection):
    """SQLite in a thread of its own, which is changed to once for any amount of work."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        # A process that ends does not wait for it.
        self._thread.daemon = True

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do this work in the thread, after all that was asked for before."""
        result: Result = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return result


class DriverTransaction(Protocol):
    """A transaction of one tenant. `Database.begin_prepared` makes and ends it."""

    async def run(self, given: Mapping[str, Any], *groups: Prepared) -> list[Rows]:
        """Run groups of statements, one after another, with these parameters; the rows that each of them returns.

        Raises IntegrityError, and whatever else the driver does.
        """
        ...

    async def each(self, given: Sequence[Mapping[str, Any]], statements: Prepared) -> None:
        """Run the statements once for each of these sets of parameters. Raises as `run` does."""
        ...


class PostgresTransaction:
    """On asyncpg, which keeps the statements prepared. Until it is begun, each group is a transaction of its own."""

    def __init__(self, connection: Any, tenant_id: str) -> None:
        """`connection`: bound to that tenant."""
        self._connection = connection
        self._tenant_id = tenant_id

    async def begin(self) -> None:
        """Begin one for all groups."""
        await self._connection.execute("BEGIN")

    async def run(self, given: Mapping[str, Any], *groups: Prepared) -> list[Rows]:
        """See DriverTransaction."""
        try:
            return [await self._run(given, group) for group in groups]
        except asyncpg.IntegrityConstraintViolationError as error:
            raise _broken(error) from error

    async def _run(self, given: Mapping[str, Any], group: Prepared) -> Rows:
        compiled = group.for_postgresql()
        if group.is_guarded:
            given = {**given, NUMBER: 0}
        rows: Rows = await self._connection.fetch(compiled.sql, *compiled.values(self._tenant_id, given))
        return [row[1:] for row in rows] if group.is_guarded else rows

    async def run_each(self, given: Sequence[Mapping[str, Any]], group: Prepared) -> list[Rows]:
        """Run a guarded group once with each of these parameters, all or none; the rows of each."""
        compiled = group.for_postgresql()
        try:
            rows = await self._connection.fetchmany(
                compiled.sql,
                [compiled.values(self._tenant_id, {**one, NUMBER: number}) for number, one in enumerate(given)],
            )
        except asyncpg.IntegrityConstraintViolationError as error:
            raise _broken(error) from error
        found: list[list[Sequence[Any]]] = [[] for _ in given]
        for number, *row in rows:
            found[number].append(row)
        return list(found)

    async def each(self, given: Sequence[Mapping[str, Any]], statements: Prepared) -> None:
        """See DriverTransaction."""
        compiled = statements.for_postgresql()
        try:
            await self._connection.executemany(compiled.sql, [compiled.values(self._tenant_id, one) for one in given])
        except asyncpg.IntegrityConstraintViolationError as error:
            raise _broken(error) from error

    async def commit(self) -> None:
        """End it; what was done stays."""
        await self._connection.execute("COMMIT")


class SqliteTransaction:
    """On SQLite's own module: a savepoint of a transaction that others may share, ended for all of them together."""

    def __init__(self, connection: SqliteConnection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._begun = False

    async def run(self, given: Mapping[str, Any], *groups: Prepared) -> list[Rows]:
        """See DriverTransaction."""
        calls = [
            (group.is_guarded, [(one.sql, one.values(self._tenant_id, given)) for one in group.for_sqlite()])
            for group in groups
        ]
        return await self._do(lambda connection: [_run_group(connection, *group) for group in calls])

    async def each(self, given: Sequence[Mapping[str, Any]], statements: Prepared) -> None:
        """See DriverTransaction."""
        calls = [(one.sql, [one.values(self._tenant_id, each) for each in given]) for one in statements.for_sqlite()]
        await self._do(lambda connection: [connection.executemany(*call) for call in calls])

    async def _do(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        begins, self._begun = not self._begun, True

        def begun(connection: sqlite3.Connection) -> Result:
            if begins:
                connection.execute("RELEASE one" if connection.in_transaction else "BEGIN IMMEDIATE")
                connection.execute("SAVEPOINT one")
            return work(connection)

        try:
            return await self._connection.run(begun)
        except sqlite3.IntegrityError as error:
            raise _broken(error) from error

    async def rollback(self) -> None:
        """Undo this one's part alone. Raises SharedLoss if no part is left."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.in_transaction:
                connection.execute("ROLLBACK TO one")
            else:
                # A full disk ends the transaction as a whole, without being asked.
                raise SharedLoss

        if self._begun:
            await self._connection.run(work)


def _run_group(connection: sqlite3.Connection, is_guarded: bool, calls: Sequence[tuple[str, list[Any]]]) -> Rows:  # noqa: FBT001
    first, *others = calls
    rows = connection.execute(*first).fetchall()
    if is_guarded and not all(row[-1] for row in rows):
        return rows
    last = [connection.execute(*call).fetchall() for call in others][-1:]
    return rows if is_guarded or not last else last[0]


class SharedLoss(sqlite3.OperationalError):
    """The transaction is gone, with what others had done in it."""


def _broken(error: Exception) -> IntegrityError:
    # As from SQLAlchemy, but for the statement and its parameters, which have no place in a log.
    return IntegrityError(None, None, error)
