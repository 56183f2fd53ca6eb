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
MIGRATIONS = str(_ROOT / "migrations")


def alembic_config(url: str) -> Config:
    """Alembic's configuration, for this database."""
    config = Config(toml_file=_ROOT / "pyproject.toml")
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Bring the schema up to this version, if it is not; SQLite's file is made. Raises Unavailable."""
    asyncio.run(_reach(url, makes_file=True))
    command.upgrade(alembic_config(url), "head")


def downgrade(url: str, revision: str) -> None:
    """Take migrations back to this revision. Raises Unavailable if the database is not there."""
    asyncio.run(_reach(url, makes_file=False))
    command.downgrade(alembic_config(url), revision)


async def is_current(engine: AsyncEngine) -> bool:
    """Whether the database has every migration, and none that this version does not know."""
    async with engine.connect() as connection:
        return await connection.run_sync(current_heads) == set(ScriptDirectory(MIGRATIONS).get_heads())


async def reach(engine: AsyncEngine) -> None:
    """Raises Unavailable if the database is not there."""
    await Database(engine).ping()


async def _reach(url: str, *, makes_file: bool) -> None:
    engine = create_engine(url, pool_size=1, name="chatglm-tools", makes_file=makes_file)
    try:
        await reach(engine)
    finally:
        await engine.dispose()


def current_heads(connection: Connection) -> set[str]:
    """The newest migrations that this database has."""
    return set(MigrationContext.configure(connection).get_current_heads())
