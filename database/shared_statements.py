"""PostgreSQL's side of what turns write: those of a tenant that come together are written together."""

from asyncio import Future, get_running_loop
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from asyncpg import DataError, DeadlockDetectedError
from sqlalchemy.exc import IntegrityError

from database.driver import PostgresTransaction, Rows
from database.endings import Endings
from database.prepared import Prepared
from database.tenant_connections import TenantConnections

# In one transaction: a bound on how long the first of them waits.
_MOST_SHARED = 64
# Parameters that name what a turn's statements lock, in the order in which they do.
_LOCKED = ("limit_subject", "conversation_id", "turn_id")
_TRIES = 3
_Waiting: TypeAlias = list[tuple[Mapping[str, Any], Future[Rows]]]


class SharedStatements:
    """Runs each group of statements as a transaction of its own, or in one with others that wait.

    Turns of one tenant queue for the rows of its limits until a commit is on the disk. Whoever comes while one of them
    is on its way is sent with the next, in one message and one commit.
    """

    def __init__(self, connections: TenantConnections, endings: Endings) -> None:
        self._connections = connections
        self._endings = endings
        self._waiting: dict[tuple[str, Prepared], _Waiting] = {}

    async def run(self, tenant_id: str, given: Mapping[str, Any], group: Prepared) -> Rows:
        """The rows of the group. Raises IntegrityError, and whatever else the driver does."""
        if not group.is_guarded:
            return await self._run_alone(tenant_id, given, group)
        key = tenant_id, group
        if (waiting := self._waiting.get(key)) is not None:
            future: Future[Rows] = get_running_loop().create_future()
            waiting.append((given, future))
            return await future
        self._waiting[key] = []
        try:
            return await self._run_alone(tenant_id, given, group)
        finally:
            if self._waiting[key]:
                self._endings.start(self._run_waiting(key))
            else:
                del self._waiting[key]

    async def _run_waiting(self, key: tuple[str, Prepared]) -> None:
        tenant_id, group = key
        while waiting := self._waiting[key][:_MOST_SHARED]:
            del self._waiting[key][:_MOST_SHARED]
            # In one order in all processes: two that locked rows in opposite ones would block each other.
            waiting.sort(key=lambda one: [str(one[0].get(name) or "") for name in _LOCKED])
            try:
                found = await self._run_together(tenant_id, [given for given, _ in waiting], group)
            except (IntegrityError, DataError, DeadlockDetectedError):
                # One that fails takes all back. It must not fail the others.
                for given, future in waiting:
                    await self._settle(future, tenant_id, given, group)
            except Exception as error:  # noqa: BLE001 - the database is away, for each of them alike
                for _, future in waiting:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), rows in zip(waiting, found, strict=True):
                    if not future.done():
                        future.set_result(rows)
        del self._waiting[key]

    async def _settle(self, future: Future[Rows], tenant_id: str, given: Mapping[str, Any], group: Prepared) -> None:
        if future.done():
            return
        try:
            rows = await self._run_alone(tenant_id, given, group)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            future.set_exception(error)
        else:
            future.set_result(rows)

    async def _run_alone(self, tenant_id: str, given: Mapping[str, Any], group: Prepared) -> Rows:
        for _ in range(_TRIES - 1):
            # Some share a conversation but no limits, so that no order is right for all. The server has taken back what
            # it chose to end.
            with suppress(DeadlockDetectedError):
                return await self._run_once(tenant_id, given, group)
        return await self._run_once(tenant_id, given, group)

    async def _run_once(self, tenant_id: str, given: Mapping[str, Any], group: Prepared) -> Rows:
        async with self._connections.of(tenant_id) as connection:
            (rows,) = await PostgresTransaction(connection, tenant_id).run(given, group)
        return rows

    async def _run_together(
        self, tenant_id: str, given: Sequence[Mapping[str, Any]], group: Prepared
    ) -> Sequence[Rows]:
        async with self._connections.of(tenant_id) as connection:
            return await PostgresTransaction(connection, tenant_id).run_each(given, group)
