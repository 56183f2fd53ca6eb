"""`erase` and `purge`: what is to be gone for good, by name or by age; of both command lines."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from app.settings import Settings
from database.repositories.erasure_repository import Counts
from database.session import Database
from services.erasure_service import ErasureService
from services.retention_service import RetentionService
from services.tenant_service import TenantService
from tools.admin.opened import AsJson, operator, show, with_database
from tools.admin.tenant_command import Name

_WORTH_A_VACUUM = 100_000
_SQLITE_ADVICE = (
    "The file keeps its size; its free pages are used again. To give them back, stop the service and run VACUUM in it."
)
_POSTGRESQL_ADVICE = (
    "Autovacuum lets the space be used again; to have that at once, run VACUUM (ANALYZE) as the owner. Only "
    "VACUUM FULL gives it back to the disk, and locks the tables meanwhile."
)
cli = typer.Typer(no_args_is_help=True, help="Erase for good, and report the rows by table.")


DryRun = Annotated[bool, typer.Option("--dry-run", help="Count the rows by table, and delete nothing.")]
Pause = Annotated[float, typer.Option(min=0, max=60, help="Seconds between transactions, for the sake of others.")]
Batch = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="Turns or conversations in one transaction; by default the setting's."),
]


@cli.command()
def conversation(
    tenant: Name,
    conversation_id: Annotated[str, typer.Argument(help="The conversation's id.")],
    dry_run: DryRun = False,  # noqa: FBT002 - an option of the command line
    batch: Batch = None,
    pause: Pause = 0,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Erase a conversation with everything that was said in it."""

    async def work(erasure: ErasureService, owner: str) -> Counts:
        if dry_run:
            return await erasure.preview(owner, conversation_id=conversation_id)
        return await erasure.conversation(operator(), owner, conversation_id)

    erase(tenant, work, batch=batch, pause=pause, dry_run=dry_run, as_json=as_json)


@cli.command()
def user(
    tenant: Name,
    name: Annotated[str, typer.Argument(help="The end user, as the requests named it.")],
    dry_run: DryRun = False,  # noqa: FBT002 - an option of the command line
    batch: Batch = None,
    pause: Pause = 0,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Erase the conversations and turns of one of a tenant's end users."""

    async def work(erasure: ErasureService, owner: str) -> Counts:
        return await (erasure.preview(owner, user=name) if dry_run else erasure.user(operator(), owner, name))

    erase(tenant, work, batch=batch, pause=pause, dry_run=dry_run, as_json=as_json)


def tenant(
    name: Name,
    dry_run: DryRun = False,  # noqa: FBT002 - an option of the command line
    batch: Batch = None,
    pause: Pause = 0,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Erase a suspended tenant with everything it has, its keys included. This cannot be undone."""

    async def work(erasure: ErasureService, owner: str) -> Counts:
        return await (erasure.preview(owner) if dry_run else erasure.tenant(operator(), owner))

    erase(name, work, batch=batch, pause=pause, dry_run=dry_run, as_json=as_json)


def purge(
    dry_run: DryRun = False,  # noqa: FBT002 - an option of the command line
    batch: Batch = None,
    pause: Pause = 0,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Delete now what tenants no longer want kept; the service does so by itself every hour."""

    async def work(settings: Settings, database: Database) -> Counts:
        size = batch or settings.purge_batch
        retention = RetentionService(database, batch=size, interval=settings.purge_seconds, pause=pause)
        counts = await (retention.preview() if dry_run else retention.purge(operator()))
        _advise(settings, counts, dry_run=dry_run)
        return counts

    deleted = with_database(work)
    show([dict(deleted)] if deleted else [], as_json=as_json)


def erase(
    name: str,
    work: Callable[[ErasureService, str], Awaitable[Counts]],
    *,
    batch: int | None,
    pause: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Do this erasure in the tenant of that name, and print its report."""

    async def erased(settings: Settings, database: Database) -> Counts:
        tenant = await TenantService(database).named(name)
        counts = await work(ErasureService(database, batch or settings.purge_batch, pause), tenant.id)
        _advise(settings, counts, dry_run=dry_run)
        return counts

    show([dict(with_database(erased))], as_json=as_json)


def _advise(settings: Settings, counts: Counts, *, dry_run: bool) -> None:
    if dry_run or counts.total() < _WORTH_A_VACUUM:
        return
    advice = _SQLITE_ADVICE if settings.uses_sqlite else _POSTGRESQL_ADVICE
    typer.echo(advice, err=True)
