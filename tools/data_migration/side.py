"""One of the two databases that a copy goes between."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.common.errors import InvalidRequest, Unavailable
from database.engine import create_engine, database_url
from database.portable import Row, Value
from database.repositories.copy_statements import Part
from database.revision import is_current
from database.session import Database

# Global tables are read as a whole, in a transaction that is nobody's.
NOBODY = "0" * 32
# A lock or a large page may take its time; a copy is not in a hurry for a single statement.
_TIMEOUT = 300.0
_CACHE_KIB = 65536
_encode = msgspec.msgpack.Encoder().encode
_BITS = 128


@dataclass(frozen=True, slots=True)
class Summary:
    """How many rows there are, and the sum of their hashes, which is the same in whatever order they are read."""

    rows: int
    checksum: int

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(self.rows + other.rows, (self.checksum + other.checksum) % (1 << _BITS))


class Side:
    """A database as the copy sees it: pages of portable rows."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.database = Database(engine)
        self._dialect = engine.dialect.name
        self._page = cache(lambda part, after: part.page(self._dialect, after=after))
        self._insert = cache(lambda part, unless_there: part.insert(self._dialect, unless_there=unless_there))

    async def page(self, part: Part, tenant_id: str | None, after: Row | None, size: int) -> list[Row]:
        """The next rows by key, behind the one of key `after`."""
        given: dict[str, Value] = {"page": size}
        given |= {f"after_{column.name}": value for column, value in zip(part.key, after or (), strict=False)}
        rows = await self.database.run_prepared(tenant_id or NOBODY, given, self._page(part, after is not None))
        return [tuple(row) for row in rows]

    async def write(self, part: Part, tenant_id: str | None, rows: Sequence[Row]) -> None:
        """Insert rows, unless they are there. Raises InvalidRequest, which names the row that the database refuses."""
        try:
            # Some may be there already. To look for each takes longer than to write it, and is seldom needed.
            with suppress(IntegrityError):
                return await self._write(part, tenant_id, rows, unless_there=False)
            await self._write(part, tenant_id, rows, unless_there=True)
        except (asyncpg.PostgresError, DBAPIError) as error:
            if len(rows) == 1:
                reason = getattr(error, "orig", None) or error
                raise InvalidRequest(f"{part.table.name} {key_of(part, rows[0])}: {reason}") from error
            for row in rows:
                await self.write(part, tenant_id, [row])

    async def _write(self, part: Part, tenant_id: str | None, rows: Sequence[Row], *, unless_there: bool) -> None:
        names, insert = [column.name for column in part.table.columns], self._insert(part, unless_there)
        async with self.database.begin_prepared(tenant_id or NOBODY) as transaction:
            if self._dialect == "postgresql":
                await transaction.run(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)), insert)
            else:
                await transaction.each([dict(zip(names, row, strict=True)) for row in rows], insert)

    async def last(self, part: Part, tenant_id: str | None) -> Row | None:
        """The key of the last row."""
        rows = await self.database.run_prepared(tenant_id or NOBODY, {}, part.last())
        return tuple(rows[0]) if rows else None

    async def count(self, part: Part, tenant_id: str | None) -> int:
        """How many rows there are."""
        ((rows,),) = await self.database.run_prepared(tenant_id or NOBODY, {}, part.count())
        return int(rows)


def key_of(part: Part, row: Row) -> Row:
    """The key of a portable row."""
    names = [column.name for column in part.table.columns]
    return tuple(row[names.index(column.name)] for column in part.key)


def summary(rows: Sequence[Row]) -> Summary:
    """Of these rows."""
    total = 0
    for row in rows:
        total += int.from_bytes(hashlib.blake2b(_encode(row), digest_size=_BITS // 8).digest())
    return Summary(len(rows), total % (1 << _BITS))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Side]:
    """A database that is there and has this version's schema. Raises Unavailable, and ValueError for no URL."""
    parsed: Any = database_url(url)
    name = parsed.render_as_string(hide_password=True).replace("+aiosqlite", "").replace("+asyncpg", "")
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database).is_file():  # noqa: ASYNC240 - once
        raise Unavailable(f"There is no file for {name}; run first: python -m tools.data_migration upgrade --url")
    side = Side(create_engine(url, pool_size=4, timeout=_TIMEOUT, name="chatglm-copy"))
    try:
        await side.database.ping()
        if not await is_current(side.engine):
            raise Unavailable(f"{name} is not of this version; run first: python -m tools.data_migration upgrade --url")
        await _enlarge(side.engine)
        yield side
    finally:
        await side.database.close()


async def _enlarge(engine: AsyncEngine) -> None:
    """Let SQLite keep more of its indexes in memory, and wait less for the disk: what a crash loses is copied again."""
    if engine.dialect.name == "sqlite":
        async with engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            for pragma in (f"cache_size=-{_CACHE_KIB}", "synchronous=NORMAL"):
                await driver.execute(f"PRAGMA {pragma}")
