"""PostgreSQL's connections for what every turn does: each stays with a tenant until another one needs it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from database.outage import ConnectionLost, is_lost
from database.tenancy import TENANT_SETTING, TenantViolation

_TENANT_ID = re.compile(r"[0-9a-f]{32}")
# After so long, something on the way may have forgotten a connection.
_TRUSTED_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class _Kept:
    """A connection, and the tenant that row level security lets it see."""

    connection: AsyncConnection
    driver: Any
    tenant_id: str = ""
    used_at: float = 0.0

    def can_serve(self, tenant_id: str) -> bool:
        """Whether it can be used as it is."""
        is_trusted = monotonic() - self.used_at < _TRUSTED_SECONDS
        return self.tenant_id == tenant_id and is_trusted and not self.driver.is_closed()


class TenantConnections:
    """Taken out of the engine's pool for good: what a turn writes is then one round trip, not four.

    A connection is bound to a tenant for as long as it is kept, so that one statement can be a transaction of its own.
    A quarter of the pool, and at least one connection of two, is left to everything else.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """`engine`: for PostgreSQL, with a pool of at least two connections."""
        self._engine = engine
        pool = cast("QueuePool", engine.pool)
        self._seconds = pool.timeout()
        self._places = asyncio.Semaphore(pool.size() - max(1, pool.size() // 4))
        self._idle: list[_Kept] = []

    @property
    def idle(self) -> int:
        """Connections that are kept, and nobody uses."""
        return len(self._idle)

    @asynccontextmanager
    async def of(self, tenant_id: str) -> AsyncIterator[Any]:
        """A connection of the driver that is bound to this tenant; thrown away where an error leaves it unclear.

        Raises TenantViolation for what is no tenant's id, PoolTimeout if all connections stay in use, ConnectionLost
        where nobody knows whether what was asked was done.
        """
        if not _TENANT_ID.fullmatch(tenant_id):
            raise TenantViolation("this is no tenant's id")
        due = asyncio.get_running_loop().time() + self._seconds
        await self._enter(due)
        try:
            if (kept := self._ready(tenant_id)) is None:
                async with asyncio.timeout_at(due):
                    kept = await self._bound(tenant_id)
            try:
                yield kept.driver
            except BaseException as error:
                if not is_lost(error):
                    await _end(kept)
                    raise
                await self._lose(kept)
                if not isinstance(error, Exception):
                    raise
                raise ConnectionLost from error
            finally:
                self._keep(kept)
        finally:
            self._places.release()

    async def close(self) -> None:
        """Close those that nobody uses."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_part(kept) for kept in idle))

    async def _enter(self, due: float) -> None:
        if not self._places.locked():
            # Without a wait, and so without a timer.
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout_at(due):
                await self._places.acquire()
        except TimeoutError as error:
            raise PoolTimeout("there were too many before") from error

    def _ready(self, tenant_id: str) -> _Kept | None:
        """The last used of this tenant's, if it can be used as it is."""
        kept = self._take(tenant_id)
        if kept is not None and not kept.can_serve(tenant_id):
            self._idle.append(kept)
            return None
        return kept

    async def _bound(self, tenant_id: str) -> _Kept:
        while (kept := self._take(tenant_id)) is not None:
            if kept.driver.is_closed():
                # Cut while nobody used it: the next one may live, and a new one does, or says why not.
                await _discard(kept)
                continue
            if kept.can_serve(tenant_id):
                return kept
            try:
                await _bind(kept, tenant_id)
            except BaseException as error:
                await self._lose(kept)
                if not isinstance(error, Exception):
                    raise
                continue
            return kept
        connection = await self._engine.connect()
        kept = _Kept(connection, (await connection.get_raw_connection()).driver_connection)
        try:
            await _bind(kept, tenant_id)
        except BaseException:
            await _discard(kept)
            raise
        return kept

    async def _lose(self, kept: _Kept) -> None:
        """Give up a connection that does not answer, and with it all that idle: they went the same way."""
        await _discard(kept)
        while self._idle:
            await _discard(self._idle.pop())

    def _take(self, tenant_id: str) -> _Kept | None:
        """The last used of this tenant's, or of all."""
        for number in range(len(self._idle) - 1, -1, -1):
            if self._idle[number].tenant_id == tenant_id:
                return self._idle.pop(number)
        return self._idle.pop() if self._idle else None

    def _keep(self, kept: _Kept) -> None:
        if not kept.connection.closed:
            kept.used_at = monotonic()
            self._idle.append(kept)


async def _bind(kept: _Kept, tenant_id: str) -> None:
    # It takes no parameters, hence the check of what an id is.
    kept.tenant_id = ""
    await kept.driver.execute(f"SET {TENANT_SETTING} = '{tenant_id}'")
    kept.tenant_id = tenant_id


async def _end(kept: _Kept) -> None:
    """After an error: nobody may get a connection inside a transaction."""
    try:
        if kept.driver.is_in_transaction():
            await kept.driver.execute("ROLLBACK")
    except BaseException:  # noqa: BLE001 - whatever came between
        await _discard(kept)


async def _discard(kept: _Kept) -> None:
    # At once: a server that does not answer would not answer a farewell either.
    kept.driver.terminate()
    await _part(kept)


async def _part(kept: _Kept) -> None:
    # Never back into the pool, where it would still be bound.
    await kept.connection.invalidate()
    await kept.connection.close()
