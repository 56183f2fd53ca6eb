"""`limit`: how much tenants and keys may use."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from app.settings import Settings
from database.session import Database
from services.limit_service import KeptLimits, Limits, LimitService
from services.tenant_service import TenantService
from tools.admin.opened import AsJson, operator, show, with_database
from tools.admin.tenant_command import Name

cli = typer.Typer(no_args_is_help=True, help="Limits: how much tenants and keys may use.")
_Count = Annotated[int | None, typer.Option(min=0, help="Without it there is no such limit.")]


@cli.command(name="set")
def set_limits(  # noqa: PLR0917 - an option a limit
    tenant: Name,
    key: Annotated[str | None, typer.Option(help="A key's id: its limits, with the keys of its rotation.")] = None,
    requests_per_minute: _Count = None,
    tokens_per_minute: _Count = None,
    turns_at_once: _Count = None,
    tokens_per_day: _Count = None,
    tokens_per_month: _Count = None,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Let these be all limits of a tenant, or of one of its keys. They count at once, with what is used already."""
    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        turns_at_once=turns_at_once,
        tokens_per_day=tokens_per_day,
        tokens_per_month=tokens_per_month,
    )

    async def work(_settings: Settings, database: Database) -> KeptLimits:
        owner = await TenantService(database).named(tenant)
        return await LimitService(database).set(operator(), owner.id, limits, key_id=key)

    kept = with_database(work)
    show([_row(kept)], as_json=as_json)


@cli.command(name="list")
def list_of(
    tenant: Name,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """List the limits of a tenant and of its keys, and what is used of them."""

    async def work(_settings: Settings, database: Database) -> list[KeptLimits]:
        owner = await TenantService(database).named(tenant)
        return await LimitService(database).of_tenant(owner.id)

    show([_row(kept) for kept in with_database(work)], as_json=as_json)


def _row(kept: KeptLimits) -> dict[str, Any]:
    limit = kept.row
    return {
        "key": kept.keys[-1] if kept.keys else None,
        "keys": list(kept.keys),
        "requests_per_minute": limit.requests_per_minute,
        "tokens_per_minute": limit.tokens_per_minute,
        "turns_at_once": limit.turns_at_once,
        "tokens_per_day": limit.tokens_per_day,
        "tokens_per_month": limit.tokens_per_month,
        **asdict(kept.use),
    }
