"""`database`: the schema."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from alembic import command
from alembic.config import Config

from app.settings import load_settings
from database.engine import create_engine
from database.session import Database

cli = typer.Typer(no_args_is_help=True, help="The database's schema.")

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def alembic_config(url: str) -> Config:
    """Alembic's configuration, for this database."""
    config = Config(toml_file=_PYPROJECT)
    config.attributes["url"] = url
    return config


@cli.command()
def upgrade() -> None:
    """Bring the schema up to this version; nothing happens if it is."""
    command.upgrade(_reached_config(), "head")


@cli.command()
def downgrade(revision: Annotated[str, typer.Argument(help="The revision to go back to; base for none.")]) -> None:
    """Take migrations back. Their data is lost: make a backup first."""
    command.downgrade(_reached_config(), revision)


@cli.command()
def check() -> None:
    """Check, on a scratch database, that the migrations make exactly the tables the code knows."""
    with tempfile.TemporaryDirectory() as directory:
        config = alembic_config(f"sqlite:///{directory}/check.db")
        command.upgrade(config, "head")
        command.check(config)


def _reached_config() -> Config:
    """The configuration for the settings' database. Raises Unavailable if it is not there."""
    url = load_settings().migration_database

    async def reach() -> None:
        database = Database(create_engine(url, pool_size=1))
        try:
            await database.ping()
        finally:
            await database.close()

    asyncio.run(reach())
    return alembic_config(url)
