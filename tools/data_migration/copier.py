"""Copying between two databases. What the target holds tells how far it has come, so that it can be resumed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import groupby

from database.portable import Row
from database.repositories.copy_statements import Part, parts
from tools.data_migration.progress_bar import Progress
from tools.data_migration.side import Side, Summary, key_of, summary

_SMALLEST_PAGE, _LARGEST_PAGE = 10, 4000
_PAGE_CHARACTERS = 2_000_000
# Tenants that are copied side by side; a connection each.
_AT_ONCE = 3
# Counting the characters of every row took longer than hashing it.
_SAMPLE = 16


@dataclass(frozen=True)
class Piece:
    """A part of a table, of one tenant; of nobody where it is all of a global table."""

    part: Part
    tenant_id: str | None


@dataclass(slots=True)
class TableReport:
    """What a table holds on both sides."""

    table: str
    source: Summary = field(default_factory=lambda: Summary(0, 0))
    target: Summary = field(default_factory=lambda: Summary(0, 0))

    @property
    def equal(self) -> bool:
        """Whether both sides hold the same rows."""
        return self.source == self.target


class Copier:
    """Copies rows in the order of their keys, tables that others refer to first."""

    def __init__(self, source: Side, target: Side, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._progress = progress

    async def count(self, pieces: list[Piece]) -> list[TableReport]:
        """Rows on both sides, by table; without checksums."""
        reports = _reports(pieces)
        for piece in pieces:
            report = reports[piece.part.table.name]
            report.source += Summary(await self._source.count(piece.part, piece.tenant_id), 0)
            report.target += Summary(await self._target.count(piece.part, piece.tenant_id), 0)
        return list(reports.values())

    async def copy(self, pieces: list[Piece], *, resume: bool) -> int:
        """Copy what the target lacks; how many rows were sent. `resume`: begin behind the last one that is there.

        Tenants go side by side through a table, since PostgreSQL uses one core for each connection; the rows of one
        stay in order.
        """
        sent = 0
        places = asyncio.Semaphore(_AT_ONCE)
        for _, same_table in groupby(pieces, key=lambda piece: piece.part):
            try:
                async with asyncio.TaskGroup() as tasks:
                    copying = [tasks.create_task(self._copy(piece, places, resume=resume)) for piece in same_table]
            except ExceptionGroup as errors:
                # The first is what went wrong; the others only end with it.
                raise errors.exceptions[0] from errors
            sent += sum(task.result() for task in copying)
        return sent

    async def _copy(self, piece: Piece, places: asyncio.Semaphore, *, resume: bool) -> int:
        sent, after = 0, None
        async with places:
            if resume and piece.part.grows:
                after = await self._target.last(piece.part, piece.tenant_id)
            async with aclosing(_pages(self._source, piece, after)) as pages:
                async for rows in pages:
                    await self._target.write(piece.part, piece.tenant_id, rows)
                    sent += len(rows)
                    self._progress.advance(f"copying {piece.part.table.name}", len(rows))
        return sent

    async def compare(self, pieces: list[Piece]) -> list[TableReport]:
        """Rows and checksums on both sides, by table."""
        reports = _reports(pieces)
        for piece in pieces:
            report = reports[piece.part.table.name]
            source, target = await asyncio.gather(self._sum(self._source, piece), self._sum(self._target, piece))
            report.source += source
            report.target += target
        return list(reports.values())

    async def _sum(self, side: Side, piece: Piece) -> Summary:
        total = Summary(0, 0)
        async with aclosing(_pages(side, piece, None)) as pages:
            async for rows in pages:
                total += summary(rows)
                self._progress.advance(f"comparing {piece.part.table.name}", len(rows))
        return total


def pieces(tenant_ids: list[str], *, whole: bool) -> list[Piece]:
    """What is copied, in order: everything there is of these tenants; `whole`: and all of the global tables."""
    return [
        Piece(part, tenant_id) for part in parts(whole=whole) for tenant_id in ([None] if part.whole else tenant_ids)
    ]


async def _pages(side: Side, piece: Piece, after: Row | None) -> AsyncGenerator[list[Row], None]:
    """Pages of about as many characters each; the next one is read while this one is used."""
    size = _LARGEST_PAGE // 4
    reading = asyncio.create_task(side.page(piece.part, piece.tenant_id, after, size))
    try:
        while rows := await reading:
            some = rows[::_SAMPLE]
            characters = sum(len(value) for row in some for value in row if isinstance(value, str | bytes))
            fitting = _PAGE_CHARACTERS * len(some) // max(characters, 1)
            last, asked = key_of(piece.part, rows[-1]), size
            size = max(_SMALLEST_PAGE, min(fitting, size * 2, _LARGEST_PAGE))
            if len(rows) < asked:
                yield rows
                return
            reading = asyncio.create_task(side.page(piece.part, piece.tenant_id, last, size))
            yield rows
    finally:
        reading.cancel()
        # Left to itself it would hold its connection, and SQLite's lock, when the database is closed.
        await asyncio.gather(reading, return_exceptions=True)


def _reports(pieces: list[Piece]) -> dict[str, TableReport]:
    return {piece.part.table.name: TableReport(piece.part.table.name) for piece in pieces}
