"""What the commands work on: the database that the settings name, and how they print what they found."""

import asyncio
import getpass
import json
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.common.errors import Unavailable
from app.settings import Settings, load_settings
from database.engine import create_engine
from database.revision import is_current
from database.session import Database
from services.audit_service import Actor

Result = TypeVar("Result")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_WIDE = 2000
_ID = re.compile("[0-9a-f]{32}")


def with_database(work: Callable[[Settings, Database], Awaitable[Result]]) -> Result:
    """Do this work on the service's database. Raises Unavailable if it is not there, or not of this version."""

    async def opened() -> Result:
        settings = load_settings()
        engine = create_engine(settings.database, pool_size=2, name="chatglm-tools")
        database = Database(engine)
        try:
            await database.ping()
            if not await is_current(engine):
                raise Unavailable("The database is not of this version; run: python -m tools.admin database upgrade")
            return await work(settings, database)
        finally:
            await database.close()

    return asyncio.run(opened())


def operator() -> Actor:
    """How the audit log names whoever runs a command: by the machine's user."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # In a container the user's number may have no name.
        name = f"uid {os.getuid()}"
    return Actor(type="command_line", id=name)


def an_id(given: str | None) -> str | None:
    """What was given for an id, if anything was. Raises BadParameter for what is none."""
    if given is not None and not _ID.fullmatch(given):
        raise typer.BadParameter("an id is 32 hexadecimal digits")
    return given


def show(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows that have the same keys: a table for people, JSON for scripts."""
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    if as_json:
        typer.echo(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    if not plain:
        typer.echo("none")
        return
    table = Table()
    for name in plain[0]:
        table.add_column(name, no_wrap=True)
    for row in plain:
        table.add_row(*(escape(_cell(value)) for value in row.values()))
    # Wider than any row: a key or an id that is cut to the terminal's width is of no use.
    Console(width=_WIDE).print(table)


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return ", ".join(value) if isinstance(value, list) else str(value)
