"""Which migrations a database has."""

from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

_MIGRATIONS = Path(__file__).parent.parent / "migrations"


async def is_current(engine: AsyncEngine) -> bool:
    """Whether the database has every migration, and none that this version does not know."""
    async with engine.connect() as connection:
        return await connection.run_sync(_heads) == set(ScriptDirectory(str(_MIGRATIONS)).get_heads())


def _heads(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())
