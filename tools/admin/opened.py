"""What the commands work on: the database that the settings name, and how they print what they found."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from app.settings import Settings, load_settings
from database.engine import create_engine
from database.session import Database

Result = TypeVar("Result")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def with_database(work: Callable[[Settings, Database], Awaitable[Result]]) -> Result:
    """Do this work on the service's database."""

    async def opened() -> Result:
        settings = load_settings()
        database = Database(create_engine(settings.database, pool_size=1))
        try:
            return await work(settings, database)
        finally:
            await database.close()

    return asyncio.run(opened())


def show(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows that have the same keys: a table for people, JSON for scripts."""
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    if as_json:
        typer.echo(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    if not plain:
        typer.echo("none")
        return
    table = Table(*plain[0])
    for row in plain:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return ", ".join(value) if isinstance(value, list) else value
