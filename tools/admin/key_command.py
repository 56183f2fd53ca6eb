"""`key`: what callers show."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Any

import typer

from app.common.errors import Conflict
from app.secret import secret_of
from app.settings import Settings
from database.clock import now
from database.models import ApiKey
from database.session import Database
from services.key_service import KeyService, holds_keys_of
from services.key_token import Peppers
from services.new_key import NewKey
from services.principal import Scope
from services.tenant_service import TenantService
from tools.admin.opened import AsJson, Result, operator, show, with_database
from tools.admin.tenant_command import Name

cli = typer.Typer(no_args_is_help=True, help="API keys: what callers show.")
KeyId = Annotated[str, typer.Argument(help="The key's id, not the key.")]
Force = Annotated[
    bool, typer.Option("--force", help="Even if no key of the database was made with this secret: theirs is lost.")
]
_MOST_AT_ONCE = 100_000


@cli.command()
def create(
    tenant: Annotated[str | None, typer.Argument(help="The tenant's name.")] = None,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="Of the administrators, instead of a tenant.")] = False,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scope: Annotated[list[Scope] | None, typer.Option(help="Repeat for several; by default all but admin.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model it may use; repeat for several.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until it expires; never by default.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once. With --admin instead of a tenant: for /admin/v1, and by default for that alone."""
    if (tenant is None) != admin:
        raise typer.BadParameter("give either a tenant or --admin")

    async def work(settings: Settings, database: Database) -> NewKey:
        keys = await _making(settings, database, force=force)
        tenants = TenantService(database)
        owner = await (tenants.administrators(operator()) if tenant is None else tenants.named(tenant))
        expires_at = None if days is None else now() + timedelta(days=days)
        return await keys.create(
            operator(), owner.id, name=name, scopes=scope or None, models=model or None, expires_at=expires_at
        )

    _show_made(with_database(work), as_json=as_json)


@cli.command(name="list")
def list_of(
    tenant: Name,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """List a tenant's keys, by what may be shown of them."""

    async def work(settings: Settings, database: Database) -> list[ApiKey]:
        owner = await TenantService(database).named(tenant)
        keys = await _keys(settings, database)
        return await keys.page(owner.id, None, _MOST_AT_ONCE)

    show([_row(key) for key in with_database(work)], as_json=as_json)


@cli.command()
def rename(key: KeyId, name: Annotated[str, typer.Argument(help="What the key is for.")]) -> None:
    """Give a key another name."""
    _with_key(key, lambda keys, row: keys.change(operator(), row.tenant_id, row.id, name=name))
    typer.echo(f"renamed {key}")


@cli.command()
def models(
    key: KeyId,
    names: Annotated[list[str] | None, typer.Argument(help="The models it may use, by the names clients see.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="It may use all models.")] = False,
) -> None:
    """Let a key use these models and no others."""
    if bool(names) == every:
        raise typer.BadParameter("give either models or --all")
    _with_key(key, lambda keys, row: keys.change(operator(), row.tenant_id, row.id, models=names or None))
    typer.echo(f"{key} may use {', '.join(names or ['all models'])}")


@cli.command()
def expire(
    key: KeyId,
    days: Annotated[int | None, typer.Option(min=0, max=36_500, help="Days from now; 0 for at once.")] = None,
    *,
    never: Annotated[bool, typer.Option("--never", help="It does not expire.")] = False,
) -> None:
    """Let a key in for so long and no longer. One that has expired is let in again, unless it was rotated."""
    if (days is None) != never:
        raise typer.BadParameter("give either --days or --never")
    end = None if days is None else now() + timedelta(days=days)
    _with_key(key, lambda keys, row: keys.change(operator(), row.tenant_id, row.id, expires_at=end))
    typer.echo(f"{key} " + ("never expires" if end is None else f"expires at {end.isoformat(timespec='seconds')}"))


@cli.command()
def rotate(
    key: KeyId,
    *,
    overlap_hours: Annotated[int, typer.Option(min=0, max=8784, help="How long the old key is still let in.")] = 24,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a key like this one, and print it, once; the old one is let in for some hours more."""
    overlap = timedelta(hours=overlap_hours)

    async def work(settings: Settings, database: Database) -> NewKey:
        keys = await _making(settings, database, force=force)
        row = await keys.get(key)
        return await keys.rotate(operator(), row.tenant_id, row.id, overlap)

    _show_made(with_database(work), as_json=as_json)


@cli.command()
def revoke(key: KeyId) -> None:
    """Revoke a key, within seconds and for good."""
    _with_key(key, lambda keys, row: keys.revoke(operator(), row.tenant_id, row.id))
    typer.echo(f"revoked {key}")


async def _keys(settings: Settings, database: Database) -> KeyService:
    return KeyService(database, await _peppers(settings, database))


async def _making(settings: Settings, database: Database, *, force: bool) -> KeyService:
    peppers = await _peppers(settings, database)
    if not force and await holds_keys_of(database, peppers) is False:
        raise Conflict(
            "No key of this database was made with the secret that is set here, so its service would refuse this one: "
            "set CHATGLM_SECRET and CHATGLM_OLD_SECRETS, or CHATGLM_DATA_DIR, as the service has them. If the keys' "
            "secret is lost, and the service has this one, use --force."
        )
    return KeyService(database, peppers)


async def _peppers(settings: Settings, database: Database) -> Peppers:
    return Peppers(await secret_of(database, settings), *settings.former_secrets)


def _with_key(key_id: str, change: Callable[[KeyService, ApiKey], Awaitable[Result]]) -> Result:
    async def work(settings: Settings, database: Database) -> Result:
        keys = await _keys(settings, database)
        return await change(keys, await keys.get(key_id))

    return with_database(work)


def _show_made(made: NewKey, *, as_json: bool) -> None:
    show([{"key": made.secret, **_row(made.row)}], as_json=as_json)


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "models": key.models,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "replaced_by": key.replaced_by,
    }
