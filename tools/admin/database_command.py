"""`database`: the schema."""

import tempfile

import typer
from alembic import command

from app.settings import load_settings
from database import revision
from database.revision import alembic_config
from tools.data_migration import schema_command

cli = typer.Typer(no_args_is_help=True, help="The database's schema.")
cli.command(epilog=schema_command.DOWNGRADE_EXAMPLES)(schema_command.downgrade)


@cli.command()
def upgrade() -> None:
    """Bring the schema up to this version; nothing happens if it is."""
    revision.upgrade(load_settings().migration_database)


@cli.command()
def check() -> None:
    """Check, on a scratch database, that the migrations make exactly the tables the code knows."""
    with tempfile.TemporaryDirectory() as directory:
        config = alembic_config(f"sqlite:///{directory}/check.db")
        command.upgrade(config, "head")
        command.check(config)
