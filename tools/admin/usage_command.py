"""`usage`: what tenants have used."""

import csv
import sys
from datetime import date, datetime
from typing import Annotated, Any

import typer

from app.settings import Settings
from database.repositories.usage_repository import UsageFilter
from database.session import Database
from services.csv_cell import cell
from services.tenant_service import TenantService
from services.usage_service import DIMENSIONS, UsageService, names_of_all, usage_days
from tools.admin.opened import AsJson, show, with_database

_Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC, included.")]


def usage(
    tenant: Annotated[str | None, typer.Argument(help="The tenant's name; all of them by default.")] = None,
    since: _Day = None,
    until: _Day = None,
    by: Annotated[list[str] | None, typer.Option(help="day, key or model; repeat for several; by default all.")] = None,
    *,
    key: Annotated[str | None, typer.Option(help="Only of the key of this id.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
) -> None:
    """Add up requests, tokens and mean latencies, ms, of all tenants or one; by default of the last 30 days."""
    if unknown := set(by or ()) - set(DIMENSIONS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join(DIMENSIONS)}", param_hint="--by")
    begin, end = usage_days(since and since.date(), until and until.date())
    wanted = UsageFilter(since=begin, until=end, key_id=key, model=model)

    async def work(_settings: Settings, database: Database) -> list[dict[str, Any]]:
        tenant_id = None if tenant is None else (await TenantService(database).named(tenant)).id
        return await UsageService(database).of_all(wanted, by or DIMENSIONS, tenant_id=tenant_id)

    rows = with_database(work)
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    if as_csv:
        writer = csv.DictWriter(sys.stdout, names_of_all(by or DIMENSIONS))
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in plain)
    else:
        show(plain, as_json=as_json)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
