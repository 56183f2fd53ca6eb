"""Which migrations a database has, and how it gets them."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from database.engine import create_engine
from database.session import Database

_ROOT = Path(__file__).parent.parent


def alembic_config(url: str) -> Config:
    """Alembic's configuration, for this database."""
    config = Config(toml_file=_ROOT / "pyproject.toml")
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Bring the schema up to this version, if it is not. Raises Unavailable if the database is not there."""
    asyncio.run(_reach(url))
    command.upgrade(alembic_config(url), "head")


def downgrade(url: str, revision: str) -> None:
    """Take migrations back to this revision. Raises Unavailable if the database is not there."""
    asyncio.run(_reach(url))
    command.downgrade(alembic_config(url), revision)


async def is_current(engine: AsyncEngine) -> bool:
    """Whether the database has every migration, and none that this version does not know."""
    async with engine.connect() as connection:
        return await connection.run_sync(_heads) == set(ScriptDirectory(str(_ROOT / "migrations")).get_heads())


async def _reach(url: str) -> None:
    database = Database(create_engine(url, pool_size=1))
    try:
        await database.ping()
    finally:
        await database.close()


def _heads(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())
