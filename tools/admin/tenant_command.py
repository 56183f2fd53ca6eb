"""`tenant`: who shares the service."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from app.settings import Settings
from database.models import Tenant
from database.session import Database
from services.tenant_service import TenantService
from tools.admin.opened import AsJson, operator, show, with_database

cli = typer.Typer(no_args_is_help=True, help="Tenants: who shares the service.")
Name = Annotated[str, typer.Argument(help="The tenant's name.")]
_Days = Annotated[int | None, typer.Option(min=0, max=36_500, help="Days that are kept; 0 for ever.")]
_KeepsContent = Annotated[
    bool | None, typer.Option("--keep-content/--keep-numbers", help="Store prompts and answers, or only their numbers.")
]


@cli.command()
def create(
    name: Annotated[str, typer.Argument(help="Unique among the tenants.")],
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Make a tenant. It needs a key next: key create NAME."""
    tenant = with_database(lambda _settings, database: TenantService(database).create(operator(), name))
    show([_row(tenant)], as_json=as_json)


@cli.command()
def weight(
    name: Name,
    weight: Annotated[float, typer.Argument(help="0.01 to 100; a new tenant has 1.")],
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Set a tenant's part of the engine beside other tenants that want it too."""
    tenant = _with_tenant(name, lambda tenants, tenant: tenants.change(operator(), tenant.id, weight=weight))
    show([_row(tenant)], as_json=as_json)


@cli.command()
def places(
    name: Name,
    most: Annotated[int | None, typer.Argument(min=1, help="Running and waiting together.")] = None,
    *,
    no_ceiling: Annotated[bool, typer.Option("--no-ceiling", help="As many as the queue allows.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set how many places of the engine's queue a tenant may hold at once."""
    if (most is None) != no_ceiling:
        raise typer.BadParameter("give either a number or --no-ceiling")
    tenant = _with_tenant(name, lambda tenants, tenant: tenants.change(operator(), tenant.id, max_places=most))
    show([_row(tenant)], as_json=as_json)


@cli.command(name="list")
def list_all(as_json: AsJson = False) -> None:  # noqa: FBT002 - an option of the command line
    """List all tenants."""
    tenants = with_database(lambda _settings, database: TenantService(database).all())
    show([_row(tenant) for tenant in tenants], as_json=as_json)


@cli.command()
def rename(name: Name, new_name: Annotated[str, typer.Argument(help="Unique among the tenants.")]) -> None:
    """Give a tenant another name."""
    _with_tenant(name, lambda tenants, tenant: tenants.change(operator(), tenant.id, name=new_name))
    typer.echo(f"renamed {name} to {new_name}")


@cli.command()
def policy(
    name: Name,
    keeps_content: _KeepsContent = None,
    turn_days: _Days = None,
    conversation_days: _Days = None,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Say what is kept of a tenant, and how long: turns since they began, conversations since their last use."""
    columns: dict[str, Any] = {} if keeps_content is None else {"keeps_content": keeps_content}
    for clock, days in (("turn_days", turn_days), ("conversation_days", conversation_days)):
        if days is not None:
            columns[clock] = days or None
    tenant = _with_tenant(name, lambda tenants, tenant: tenants.change(operator(), tenant.id, **columns))
    show([_row(tenant)], as_json=as_json)


@cli.command()
def suspend(name: Name) -> None:
    """Refuse a tenant's keys, within seconds, until it is resumed."""
    _with_tenant(name, lambda tenants, tenant: tenants.suspend(operator(), tenant.id))
    typer.echo(f"suspended {name}")


@cli.command()
def resume(name: Name) -> None:
    """Let a tenant's keys in again."""
    _with_tenant(name, lambda tenants, tenant: tenants.resume(operator(), tenant.id))
    typer.echo(f"resumed {name}")


def _with_tenant(name: str, change: Callable[[TenantService, Tenant], Awaitable[Tenant]]) -> Tenant:
    async def work(_settings: Settings, database: Database) -> Tenant:
        tenants = TenantService(database)
        return await change(tenants, await tenants.named(name))

    return with_database(work)


def _row(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "administers": tenant.administers,
        "created_at": tenant.created_at,
        "suspended_at": tenant.suspended_at,
        "keeps_content": tenant.keeps_content,
        "turn_days": tenant.turn_days,
        "conversation_days": tenant.conversation_days,
        "weight": tenant.weight,
        "max_places": tenant.max_places,
    }
