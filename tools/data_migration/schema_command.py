"""`upgrade` and `downgrade`: the schema, with a look at who would have to live with it."""

import asyncio
from typing import Annotated

import typer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.common.errors import Conflict
from app.instance import AlreadyRunning, claim_instance
from app.settings import Settings, load_settings
from database import revision
from database.engine import SERVICE_NAME, create_engine, database_url, same_database
from database.pending_migrations import disturbing, pending
from database.read_only import is_read_only

UPGRADE_EXAMPLES = """
Examples:

python -m tools.data_migration upgrade

python -m tools.data_migration upgrade --url sqlite:///new.db
"""
DOWNGRADE_EXAMPLES = "Example: python -m tools.data_migration downgrade 0003"
_BACKUP = "Is there a backup? What a migration changes can be taken back, what it deletes cannot."
# Visible to every role, unlike what the others' sessions do.
_REPLICAS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"
)


def _checked(url: str | None) -> str | None:
    try:
        if url is not None:
            database_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return url


_Url = Annotated[
    str | None,
    typer.Option(
        callback=_checked, help="Another database than the settings'; under the role that may change its schema."
    ),
]
_Force = Annotated[bool, typer.Option("--force", help="Even if replicas run that may fail then.")]


def upgrade(url: _Url = None, *, force: _Force = False) -> None:
    """Bring the schema up to this version; nothing happens if it is. Two at once wait for each other.

    Refused while replicas run that could not live with the new schema: those of before go on with one that has only
    gained tables, indexes and columns that need not be filled.
    """
    settings = load_settings()
    target = url or settings.migration_database
    asyncio.run(_check(settings, target, force=force, down=False))
    revision.upgrade(target)
    typer.echo("up to date")


def downgrade(
    to: Annotated[str, typer.Argument(help="The revision to go back to; base for none.")],
    url: _Url = None,
    *,
    force: _Force = False,
) -> None:
    """Take migrations back. Their data is lost. Refused while replicas run: they need what is taken away."""
    settings = load_settings()
    target = url or settings.migration_database
    asyncio.run(_check(settings, target, force=force, down=True))
    revision.downgrade(target, to)
    typer.echo(f"back at {to}")


async def _check(settings: Settings, url: str, *, force: bool, down: bool) -> None:
    typer.echo(_BACKUP, err=True)
    engine = create_engine(url, pool_size=1, name="chatglm-tools", makes_file=not down)
    try:
        await revision.reach(engine)
        if await is_read_only(engine):
            raise Conflict("The database is being copied; see: release --help")
        problems = ["all that it takes back"] if down else disturbing(await pending(engine))
        running = await _running(engine, settings, url)
    finally:
        await engine.dispose()
    if problems and running and not force:
        listed = "\n  ".join(problems)
        raise Conflict(f"{running}, and may not live with:\n  {listed}\nStop the service first, or use --force.")


async def _running(engine: AsyncEngine, settings: Settings, url: str) -> str | None:
    """Who uses the database, as the beginning of a sentence."""
    if engine.dialect.name == "postgresql":
        async with engine.connect() as connection:
            sessions = await connection.scalar(_REPLICAS, {"name": SERVICE_NAME})
        return f"Replicas have {sessions} connections open" if sessions else None
    if not same_database(url, settings.database):
        return None
    try:
        with claim_instance(settings.data_dir):
            return None
    except AlreadyRunning:
        return f"A service is running on {settings.data_dir}"
