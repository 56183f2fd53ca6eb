"""`import`: conversations of this and other software, brought into a tenant."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO
from zoneinfo import ZoneInfo

import typer

from app.common.errors import InvalidRequest
from app.settings import Settings
from database.identifier import part_id
from database.models import Tenant
from database.session import Database
from services.tenant_service import TenantService
from tools.admin.opened import AsJson, operator, show, with_database
from tools.data_migration import (
    chatgpt_format,
    jsonl_format,
    openai_format,
    sharegpt_format,
    wrapper_log_format,
)
from tools.data_migration.chat_rows import ChatRows
from tools.data_migration.exit_status import REJECTED
from tools.data_migration.importer import Imported, Importer
from tools.data_migration.progress_bar import Progress
from tools.data_migration.record import Chat, Record, Rejected, Unreadable

EXAMPLES = """
Examples:

python -m tools.data_migration import wrapper-log wrapper.log --tenant acme --timezone Asia/Shanghai

python -m tools.data_migration import openai chats.jsonl --tenant acme --at 2024-07-01

python -m tools.data_migration import jsonl acme.jsonl --tenant acme --rejects rejects.jsonl --json
"""


class Format(StrEnum):
    """What a file to import is."""

    JSONL = "jsonl"
    OPENAI = "openai"
    CHATGPT = "chatgpt"
    SHAREGPT = "sharegpt"
    WRAPPER_LOG = "wrapper-log"


def import_file(  # noqa: PLR0913 - an option a format
    format_: Annotated[
        Format,
        typer.Argument(
            metavar="FORMAT",
            help="jsonl (of export), openai (chat JSONL), chatgpt (conversations.json), sharegpt, wrapper-log.",
        ),
    ],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The file.")],
    tenant: Annotated[str, typer.Option(help="The tenant's name.")],
    *,
    at: Annotated[
        datetime | None, typer.Option(help="UTC; when conversations were made that do not say so (openai, sharegpt).")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="Of a wrapper-log; the settings' by default.")] = None,
    all_branches: Annotated[
        bool, typer.Option("--all-branches", help="chatgpt: also the branches that were not shown last.")
    ] = False,
    new_ids: Annotated[
        bool, typer.Option("--new-ids", help="jsonl: under other ids, beside the original in the same database.")
    ] = False,
    rejects: Annotated[Path | None, typer.Option(help="Where rejects go; by default FILE.rejects.jsonl.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring conversations into a tenant. A second run of the same file adds nothing.

    A record that cannot be read or stored goes to the file of rejects with its number and the reason; of every other
    one all is stored. Turns that are brought in are in the history, and in nobody's usage or limits.

    Exit status: 0 all imported, 1 refused, 2 wrong usage, 4 imported but for the rejects.
    """

    async def work(settings: Settings, database: Database) -> Imported:
        owner = await TenantService(database).named(tenant)
        if not owner.keeps_content:
            raise InvalidRequest("The tenant's policy is to keep only numbers.", param="tenant")
        zone = _zone(timezone or settings.timezone)
        made = None if at is None else at.replace(tzinfo=at.tzinfo or UTC)
        reader = _reader(format_, owner, zone, made, all_branches=all_branches, new_ids=new_ids)
        with file.open("rb") as opened, Progress(None, quiet=as_json) as progress:
            return await Importer(operator(), database, owner, rejected_to, progress).run(reader(opened))

    rejected_to = rejects or file.with_name(f"{file.name}.rejects.jsonl")
    # Those of an earlier run would be taken for this one's.
    rejected_to.unlink(missing_ok=True)
    report = with_database(work)
    row = {"records": report.records, "rows_added": report.rows_added, "rejected": report.rejected}
    show([row | {"rejects": str(rejected_to) if report.rejected else None}], as_json=as_json)
    if report.rejected:
        raise typer.Exit(REJECTED)


def _reader(
    format_: Format, tenant: Tenant, zone: tzinfo | None, at: datetime | None, *, all_branches: bool, new_ids: bool
) -> Callable[[BinaryIO], Iterator[Record | Rejected]]:
    if format_ is Format.JSONL:
        renamed: Callable[[str], str] = (lambda row_id: part_id(row_id, tenant.id)) if new_ids else str
        return lambda file: jsonl_format.read(file, renamed)
    rows = ChatRows(tenant, format_.value, at)
    readers: dict[Format, Callable[[BinaryIO], Iterator[Chat | Rejected]]] = {
        Format.OPENAI: openai_format.read,
        Format.CHATGPT: chatgpt_format.reader(all_branches=all_branches),
        Format.SHAREGPT: sharegpt_format.read,
        Format.WRAPPER_LOG: lambda file: wrapper_log_format.read(file, zone),
    }
    return lambda file: _records(readers[format_](file), rows)


def _records(chats: Iterator[Chat | Rejected], rows: ChatRows) -> Iterator[Record | Rejected]:
    for chat in chats:
        if isinstance(chat, Rejected):
            yield chat
            continue
        try:
            yield rows.record(chat)
        except Unreadable as error:
            yield Rejected(chat.number, str(error), chat.raw)


def _zone(name: str | None) -> tzinfo | None:
    try:
        return None if name is None else ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise typer.BadParameter(f"there is no time zone {name!r}", param_hint="--timezone") from error
