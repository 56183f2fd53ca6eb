"""The only door to the database, and the only commit in the code base."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import cast

from sqlalchemy import ClauseElement, FromClause, Table, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql.visitors import iterate

from app.common.errors import Unavailable
from database.models import Base, TenantOwned

_TENANT = "tenant_id"
# SQLSTATE classes: connection, no such login or database, rolled back (deadlock), no resources, time-out or shutdown,
# lock not available.
_PASSING = ("08", "28", "3D", "40", "53", "55P03", "57")


class TenantViolation(Exception):
    """A statement left its tenant, or had none. A defect of ours, never the caller's."""


class Database:
    """Short transactions, each for one tenant or for the global tables."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False, sync_session_class=_GuardedSession)

    @asynccontextmanager
    async def begin(self, tenant_id: str) -> AsyncIterator[AsyncSession]:
        """A transaction that sees and writes this tenant's content alone; committed on leaving, rolled back on error.

        Raises Unavailable when the database refuses, times out or is gone.
        """
        async with self._transaction() as session:
            session.sync_session.info[_TENANT] = tenant_id
            yield session

    @asynccontextmanager
    async def begin_global(self) -> AsyncIterator[AsyncSession]:
        """A transaction for the tables without content (tenants, keys, leases); content raises TenantViolation."""
        async with self._transaction() as session:
            yield session

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        try:
            async with self._sessions() as session:
                yield session
                await session.commit()
        except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:
            raise Unavailable("The database cannot be reached; try again.", retry_after=1) from error
        except DBAPIError as error:
            if error.connection_invalidated or _is_passing(error):
                raise Unavailable("The database cannot answer now; try again.", retry_after=1) from error
            raise

    async def ping(self) -> None:
        """Raises Unavailable unless the database answers."""
        async with self.begin_global() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Give every connection back."""
        await self._engine.dispose()


def _is_passing(error: DBAPIError) -> bool:
    """Whether PostgreSQL says that the statement was right but the moment was not. SQLite has OperationalError."""
    return str(getattr(error.orig, "sqlstate", None) or "").startswith(_PASSING)


class _GuardedSession(Session):
    """Scopes every ORM statement to the session's tenant and stamps new rows with it."""


@event.listens_for(_GuardedSession, "do_orm_execute")
def _scope(state: ORMExecuteState) -> None:
    # Wherever content stands in the statement: in a subquery, a join, behind a count. The mappers that SQLAlchemy
    # names for a statement are those of its columns alone.
    parts = iterate(cast("ClauseElement", state.statement))
    if _content().isdisjoint(part for part in parts if isinstance(part, Table)):
        return
    tenant_id = state.session.info.get(_TENANT)
    if tenant_id is None:
        raise TenantViolation("content was asked for outside a tenant")
    if state.is_insert:
        raise TenantViolation("content is inserted by adding objects, which are stamped; not by statements")
    if not state.is_orm_statement:
        raise TenantViolation("content is asked for by its classes, which can be scoped; not by its tables")
    if state.is_update or state.is_delete:
        # Sessions live for one short transaction and read nothing back that they changed by a statement.
        state.update_execution_options(synchronize_session=False)
    state.statement = state.statement.options(
        with_loader_criteria(TenantOwned, lambda cls: cls.tenant_id == tenant_id, include_aliases=True)
    )


@cache
def _content() -> frozenset[FromClause]:
    return frozenset(mapper.local_table for mapper in Base.registry.mappers if issubclass(mapper.class_, TenantOwned))


@event.listens_for(_GuardedSession, "before_flush")
def _stamp(session: Session, _context: UOWTransaction, _instances: object) -> None:
    for row in [*session.new, *session.dirty, *session.deleted]:
        if not isinstance(row, TenantOwned):
            continue
        tenant_id = session.info.get(_TENANT)
        if tenant_id is None:
            raise TenantViolation("content was written outside a tenant")
        owner: str | None = row.__dict__.get(_TENANT)
        if owner is None:
            row.tenant_id = tenant_id
        elif owner != tenant_id:
            raise TenantViolation("a row of another tenant was written")
