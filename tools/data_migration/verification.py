"""What is wrong with the rows of a tenant."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from database.clock import now
from database.driver import Rows
from database.models import Tenant
from database.prepared import Prepared
from database.repositories import verify_statements
from database.repositories.verify_statements import MOST
from database.session import Database

_USAGE = (
    "{} of key {}, model {}: log and usage have {} and {} requests, {} and {} cancelled, {} and {} failed, "
    "{} and {} prompt, {} and {} cached, {} and {} completion tokens"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a check has found. Notes are told, but nothing is wrong."""

    tenant: str
    check: str
    what: str
    is_note: bool = False


async def orphans(engine: AsyncEngine) -> AsyncIterator[Finding]:
    """Rows of tenants that are not there: whoever edits a SQLite file by hand can leave some. PostgreSQL refuses."""
    if engine.dialect.name != "sqlite":
        return
    async with engine.connect() as connection:
        for table, row, parent, _ in (await connection.execute(text("PRAGMA foreign_key_check"))).fetchmany(MOST):
            if parent == Tenant.__tablename__:
                yield Finding("", "orphan", f"{table}: row {row} belongs to a tenant that is not there")


async def verify(database: Database, dialect: str, tenant: Tenant) -> AsyncIterator[Finding]:
    """Every check on this tenant's rows; at most `MOST` findings of a kind."""
    for name, statement in verify_statements.references().items():
        for row in await _rows(database, tenant, statement):
            yield Finding(tenant.name, "reference", f"{name}: {_listed(row)} refers to a row that is not there")
    for check, statement, sentence in _sentences(dialect):
        for row in await _rows(database, tenant, statement, at=now()):
            yield Finding(tenant.name, check, sentence.format(*row), is_note=check == "gap")


def _sentences(dialect: str) -> Sequence[tuple[str, Prepared, str]]:
    return (
        ("state", verify_statements.WITHOUT_LEASE, "turn {} runs, but no process answers for it"),
        ("lease", verify_statements.LEASE_OF_NONE, "the lease of turn {}, which does not run"),
        ("lease", verify_statements.EXPIRED_LEASE, "the lease of turn {} has expired; a started service settles it"),
        ("limit", verify_statements.RUNNING, "limit {} counts {} running turns; there are {}"),
        ("position", verify_statements.OVERRUN, "conversation {} of length {}: {} items, the last at {}"),
        ("gap", verify_statements.GAPS, "conversation {} of length {} has {} items; fewer where some were erased"),
        ("usage", verify_statements.usage(dialect), _USAGE),
    )


async def _rows(database: Database, tenant: Tenant, statement: Prepared, **given: Any) -> Rows:
    return await database.run_prepared(tenant.id, given, statement)


def _listed(row: Sequence[Any]) -> str:
    return " ".join(str(value) for value in row)
