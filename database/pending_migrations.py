"""What the migrations that a database lacks would do to replicas that run while they are made."""

import re
from io import StringIO

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from database.revision import MIGRATIONS, current_heads

# What a process that does not know of it never notices: new tables, plain indexes, columns that it need not fill.
_NEW_TABLE = re.compile(r"CREATE TABLE (\w+)")
_OF_TABLE = re.compile(r"(?:ALTER TABLE|CREATE (?:UNIQUE INDEX|POLICY|TRIGGER) .*? ON|UPDATE|INSERT INTO) (\w+)")
_HARMLESS = (
    re.compile(r"CREATE TABLE "),
    re.compile(r"CREATE INDEX "),
    re.compile(r"CREATE (OR REPLACE )?FUNCTION "),
    re.compile(r"ALTER TABLE \w+ ADD COLUMN (?!.*NOT NULL)"),
    re.compile(r"ALTER TABLE \w+ ADD COLUMN .*DEFAULT"),
    # No replica writes it.
    re.compile(r"DO \$\$ .*REVOKE .* ON alembic_version "),
)


async def pending(engine: AsyncEngine) -> list[str]:
    """The revisions that the database lacks, in order."""
    script = ScriptDirectory(MIGRATIONS)
    async with engine.connect() as connection:
        heads = await connection.run_sync(current_heads)
    lacking = script.iterate_revisions("heads", tuple(heads) or "base")
    return [revision.revision for revision in lacking][::-1]


def disturbing(revisions: list[str]) -> list[str]:
    """The statements of these migrations, as PostgreSQL gets them, that replicas of before may not live with."""
    made: set[str] = set()
    found = []
    for revision in revisions:
        for statement in _statements(revision):
            made |= set(_NEW_TABLE.findall(statement))
            table = _OF_TABLE.match(statement)
            is_new = table is not None and table[1] in made
            if not is_new and not any(pattern.match(statement) for pattern in _HARMLESS):
                found.append(f"{revision}: {statement}")
    return found


def _statements(revision: str) -> list[str]:
    written = StringIO()
    # Written down instead of run, so that nothing has to be said of a migration twice.
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written, "transactional_ddl": False}
    )
    script = ScriptDirectory(MIGRATIONS).get_revision(revision)
    with Operations.context(context):
        script.module.upgrade()
    parts = re.split(r";\s*\n\n", written.getvalue())
    return [" ".join(part.split()) for part in parts if part.strip()]
