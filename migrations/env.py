"""Alembic's environment: migrates `CHATGLM_MIGRATION_DATABASE_URL`, or the URL it is given as an attribute."""

import asyncio
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, text

from app.settings import load_settings
from database.engine import create_engine
from database.models import Base
from database.models.base import UtcDateTime

_LOCK_TIMEOUT_MS = 5000
_LONGEST_MIGRATION_SECONDS = 3600.0
_ADVISORY_LOCK = 0x63676C6D


def _render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    # A migration must keep its meaning when the models change: it names SQLAlchemy's types, never ours.
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        render_item=_render_item,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            # Two replicas that start at once must not migrate at once; a migration must not queue behind long readers.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}"))
        context.run_migrations()


async def _run() -> None:
    url = context.config.attributes.get("url") or load_settings().migration_database
    engine = create_engine(url, timeout=_LONGEST_MIGRATION_SECONDS, name="chatglm-migrations", makes_file=True)
    try:
        async with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                # A table that is made anew is dropped first; what refers to it must not be erased with it.
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.execute("PRAGMA foreign_keys=OFF")
            await connection.run_sync(_migrate)
            await connection.commit()
    finally:
        await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Migrations need the database: offline SQL is not supported.")
asyncio.run(_run())
