"""`key`: what callers show."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from app.secret import load_secret
from app.settings import Settings
from database.models import ApiKey
from database.session import Database
from services.key_service import KeyService
from services.key_token import Pepper
from services.principal import TENANT_SCOPES, Scope
from tools.admin.opened import AsJson, show, with_database

cli = typer.Typer(no_args_is_help=True, help="API keys: what callers show.")


@cli.command()
def create(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scope: Annotated[list[Scope] | None, typer.Option(help="Repeat for several; by default all but admin.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until it expires; never by default.")
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Make a key and print it, once. The first admin key: tenant create admin; key create admin --scope admin."""
    scopes = frozenset(scope) if scope else TENANT_SCOPES
    lifetime = None if days is None else timedelta(days=days)
    made = with_database(
        lambda settings, database: _keys(settings, database).create(tenant, name, scopes, lifetime=lifetime)
    )
    show([{"key": made.secret, **_row(made.row)}], as_json=as_json)


@cli.command(name="list")
def list_of(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """List a tenant's keys, by what may be shown of them."""
    keys = with_database(lambda settings, database: _keys(settings, database).of_tenant(tenant))
    show([_row(key) for key in keys], as_json=as_json)


@cli.command()
def revoke(key: Annotated[str, typer.Argument(help="The key's id, not the key.")]) -> None:
    """Revoke a key, at once and for good."""
    with_database(lambda settings, database: _keys(settings, database).revoke(key))
    typer.echo(f"revoked {key}")


def _keys(settings: Settings, database: Database) -> KeyService:
    return KeyService(database, Pepper(load_secret(settings)))


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
