"""The migrations make what the models say, and can be taken back, with rows present."""

from alembic import command

from database.engine import create_engine
from database.revision import is_current
from tools.admin.database_command import alembic_config


def test_up_makes_exactly_the_tables_of_the_models(empty_database_url: str) -> None:
    config = alembic_config(empty_database_url)
    command.upgrade(config, "head")
    command.check(config)


async def test_a_database_without_migrations_is_not_current(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    assert not await is_current(engine)
    await engine.dispose()


async def test_a_migrated_database_is_current(database_url: str) -> None:
    engine = create_engine(database_url)
    assert await is_current(engine)
    await engine.dispose()
