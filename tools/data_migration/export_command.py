"""`export`: a tenant's conversations and turns, taken out."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeAlias, TypeVar

import typer

from app.settings import Settings
from database.models import Tenant, TurnStatus
from database.repositories.export_repository import Bundle, ExportRepository, LoggedTurn
from database.repositories.history_repository import HistoryFilter
from database.session import Database
from services.audit_service import record as note
from services.tenant_service import TenantService
from tools.admin.opened import operator, with_database
from tools.data_migration import csv_format, jsonl_format, openai_format
from tools.data_migration.progress_bar import Progress

EXAMPLES = """
Examples:

python -m tools.data_migration export --tenant acme --format jsonl --out acme.jsonl

python -m tools.data_migration export --tenant acme --format csv --since 2026-11-01 --status failed > failed.csv
"""
_BUNDLES_AT_ONCE, _TURNS_AT_ONCE = 20, 200
Found = TypeVar("Found", Bundle, LoggedTurn)
_Page: TypeAlias = Callable[[ExportRepository, HistoryFilter, str | None, int], Awaitable[list[Found]]]


class Format(StrEnum):
    """How it is written."""

    JSONL = "jsonl"
    OPENAI = "openai"
    CSV = "csv"


def export(  # noqa: PLR0917 - an option a filter
    tenant: Annotated[str, typer.Option(help="The tenant's name.")],
    format_: Annotated[
        Format, typer.Option("--format", help="jsonl (for import), openai (chat JSONL) or csv (a line for each turn).")
    ] = Format.JSONL,
    out: Annotated[Path | None, typer.Option(help="The file; standard output by default.")] = None,
    since: Annotated[datetime | None, typer.Option(help="UTC, included: when a turn was made.")] = None,
    until: Annotated[datetime | None, typer.Option(help="UTC, not included.")] = None,
    user: Annotated[str | None, typer.Option(help="The end user of a turn.")] = None,
    conversation: Annotated[str | None, typer.Option(help="The id of a conversation.")] = None,
    status: Annotated[TurnStatus | None, typer.Option(help="How a turn ended.")] = None,
) -> None:
    """Write a tenant's content, oldest first. Memory stays the same however much there is.

    Filters choose turns; jsonl and openai write every conversation in which one is chosen, as a whole. Turns that run
    are left out. What `import jsonl` brings in elsewhere is exported there again byte for byte.
    """
    wanted = HistoryFilter(conversation_id=conversation, user=user, status=status, since=_utc(since), until=_utc(until))

    async def work(_settings: Settings, database: Database) -> None:
        owner = await TenantService(database).named(tenant)
        async with database.begin_global() as session:
            note(session, operator(), "tenant.export", tenant_id=owner.id, target_id=owner.id)
        with ExitStack() as stack:
            file: Any = sys.stdout.buffer if out is None else stack.enter_context(_private(out))
            progress = stack.enter_context(Progress(None, quiet=out is None))
            async for line in _lines(database, owner, format_, wanted):
                file.write(line)
                progress.advance("exporting", 1)
            file.flush()

    with_database(work)


async def _lines(database: Database, tenant: Tenant, format_: Format, wanted: HistoryFilter) -> AsyncIterator[bytes]:
    if format_ is Format.CSV:
        yield csv_format.HEAD.encode() + csv_format.line(csv_format.COLUMNS)
        async for row in _all(database, tenant, wanted, ExportRepository.log, _TURNS_AT_ONCE):
            yield csv_format.line(csv_format.cells(row))
        return
    for page, limit in ((ExportRepository.conversations, _BUNDLES_AT_ONCE), (ExportRepository.turns, _TURNS_AT_ONCE)):
        async for bundle in _all(database, tenant, wanted, page, limit):
            line = openai_format.line(bundle) if format_ is Format.OPENAI else jsonl_format.line(bundle)
            if line is not None:
                yield line


async def _all(
    database: Database, tenant: Tenant, wanted: HistoryFilter, page: _Page[Found], limit: int
) -> AsyncIterator[Found]:
    after: str | None = None
    while True:
        async with database.begin(tenant.id) as session:
            found = await page(ExportRepository(session), wanted, after, limit)
        for one in found:
            yield one
        if len(found) < limit:
            return
        after = found[-1].id


def _private(path: Path) -> BinaryIO:
    # What was said is in it.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=UTC)
