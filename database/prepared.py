"""Statements that are built, checked and compiled once, and run on the driver itself: what every turn writes."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import (
    BinaryExpression,
    BindParameter,
    Column,
    ColumnElement,
    CompoundSelect,
    Delete,
    Insert,
    Integer,
    Select,
    String,
    Table,
    Update,
    bindparam,
    exists,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import BooleanClauseList
from sqlalchemy.sql.visitors import iterate

from database.models.base import ID_LENGTH
from database.tenancy import TENANT, TenantViolation, content_tables, refuse_text

Statement: TypeAlias = Select[Any] | CompoundSelect[Any] | Insert | Update | Delete

_PREFIX = "given_"
_SESSION_TENANT = "session_tenant"
# The tenant of the transaction. Nobody who runs a statement can give it.
OWN_TENANT: BindParameter[str] = bindparam(_SESSION_TENANT, type_=String(ID_LENGTH))


# Tells the rows of a guarded group from those of the same group with other parameters: their first column.
NUMBER = "number"


def given(name: str, column: Any) -> BindParameter[Any]:
    """A parameter of this name, of this column's type."""
    return bindparam(_PREFIX + name, type_=column.type)


@dataclass(frozen=True, slots=True)
class Compiled:
    """SQL for one driver, and where each parameter comes from, in order.

    Attributes:
        pick: takes the parameters out of those given, the constants and the tenant.
        constants: what the statement itself names, by the parameters' numbers as text.
        conversions: what the driver does not know as it is: a parameter's number, and what makes of it what it knows.
    """

    sql: str
    pick: Callable[[Mapping[str, Any]], Sequence[Any]]
    constants: Mapping[str, Any]
    conversions: Sequence[tuple[int, Callable[[Any], Any]]]

    def values(self, tenant_id: str, given: Mapping[str, Any]) -> list[Any]:
        """What the driver is given. Raises KeyError for a parameter that is missing."""
        values = [*self.pick({**given, **self.constants, _SESSION_TENANT: tenant_id})]
        for number, convert in self.conversions:
            values[number] = convert(values[number])
        return values


class Prepared:
    """Statements that run together, in order where the database does one after another; the last one's rows come back.

    PostgreSQL gets them as one statement, in which each sees the rows as they were before.

    With a guard, a query whose last column is `ok`, its rows come back instead; and if one of them is not, nothing else
    is done. So what is checked and what is written can be a single statement, without a transaction around it.
    """

    def __init__(self, *statements: Statement, guard: Select[Any] | CompoundSelect[Any] | None = None) -> None:
        """Raises TenantViolation unless each is bound to `OWN_TENANT` wherever it touches content."""
        for statement in (*statements, *([] if guard is None else [guard])):
            _check(statement)
        self._statements = statements
        self._guard = guard
        self.for_postgresql = cache(self._for_postgresql)
        self.for_sqlite = cache(self._for_sqlite)

    @property
    def is_guarded(self) -> bool:
        """Whether the first statement decides about the others."""
        return self._guard is not None

    def _for_postgresql(self) -> Compiled:
        before: Iterable[Statement]
        last: Statement
        if self._guard is None:
            *before, last = self._statements
        else:
            guard = self._guard.cte("guard")
            allowed = ~exists(select(literal(1)).select_from(guard).where(~guard.c.ok))
            before = [_only_if(allowed, one) for one in self._statements]
            last = select(bindparam(_PREFIX + NUMBER, type_=Integer()), guard)
        together = last.add_cte(*(one.cte(f"part_{number}") for number, one in enumerate(before)))
        return _compile(together, asyncpg.dialect())  # type: ignore[no-untyped-call]

    def _for_sqlite(self) -> list[Compiled]:
        guards = [] if self._guard is None else [self._guard]
        return [_compile(one, sqlite.dialect()) for one in (*guards, *self._statements)]


def _only_if(condition: ColumnElement[bool], statement: Any) -> Any:
    """The same statement, which does nothing unless this holds."""
    if not isinstance(statement, Insert):
        return statement.where(condition)
    inserts: Any = statement._clone()  # noqa: SLF001 - keeps what is done on a conflict
    names, source = inserts._select_names, inserts.select  # noqa: SLF001
    if source is None:
        values = {getattr(column, "key", column): value for column, value in inserts._values.items()}  # noqa: SLF001
        # Of the columns' types: PostgreSQL takes for text what it is not told.
        typed = (type_coerce(value, inserts.table.c[name].type) for name, value in values.items())
        names, source = list(values), select(*typed)
    inserts._values = None  # noqa: SLF001
    return inserts.from_select(names, source.where(condition))


def _compile(statement: Statement, dialect: Dialect) -> Compiled:
    compiled: Any = statement.compile(dialect=dialect)
    constants: dict[str, Any] = {}
    conversions = []
    wanted: list[str] = []
    for number, name in enumerate(compiled.positiontup):
        bind = compiled.binds[name]
        convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if name == _SESSION_TENANT:
            wanted.append(name)
        elif name.startswith(_PREFIX):
            wanted.append(name[len(_PREFIX) :])
            if convert is not None:
                conversions.append((number, convert))
        else:
            # A name that no column has.
            wanted.append(str(number))
            constants[str(number)] = bind.value if convert is None else convert(bind.value)
    return Compiled(str(compiled), _picker(wanted), constants, conversions)


def _picker(wanted: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    # In C: a call for each of a turn's hundred parameters took as long as writing them.
    if len(wanted) > 1:
        return operator.itemgetter(*wanted)
    return lambda given: [given[one] for one in wanted]


def _check(statement: Statement) -> None:
    refuse_text(statement)
    for part in iterate(statement):
        if isinstance(part, Insert):
            _check_insert(part)
        elif isinstance(part, Select):
            tables = (table for source in part.get_final_froms() for table in _tables(source))
            _check_condition(part.whereclause, tables)
        elif isinstance(part, Update | Delete):
            named = iterate(part.whereclause) if part.whereclause is not None else ()
            _check_condition(part.whereclause, {part.table, *(one.table for one in named if isinstance(one, Column))})
            if any(getattr(column, "key", column) == TENANT for column in getattr(part, "_values", None) or ()):
                raise TenantViolation("a row was given to a tenant by a statement")


def _check_insert(statement: Any) -> None:
    if statement.table not in content_tables():
        return
    if statement.select is None:
        values = {getattr(column, "key", column): value for column, value in (statement._values or {}).items()}  # noqa: SLF001
        tenant = values.get(TENANT)
    else:
        names = [getattr(column, "key", column) for column in statement._select_names]  # noqa: SLF001
        columns = list(statement.select.selected_columns)
        tenant = columns[names.index(TENANT)] if TENANT in names else None
    if getattr(tenant, "key", None) != _SESSION_TENANT or not _merges_own_rows(statement._post_values_clause):  # noqa: SLF001
        raise TenantViolation(f"{statement.table.name} is written without the transaction's tenant")


def _merges_own_rows(on_conflict: Any) -> bool:
    """Whether an insert that meets a row of the same key can only have met one of its own tenant."""
    if on_conflict is None:
        return True
    key = {getattr(column, "key", column) for column in on_conflict.inferred_target_elements or ()}
    return TENANT in key and TENANT not in {getattr(one, "key", one) for one in on_conflict.update_values_to_set}


def _tables(source: Any) -> Iterator[Table]:
    """Tables that the statement's own condition has to bind: what a join adds may be bound by the join's."""
    if isinstance(source, Table):
        yield source
    elif source.__visit_name__ == "join":
        yield from _tables(source.left)
        bound = _bound(source.onclause)
        yield from (table for table in _tables(source.right) if table not in bound)
    elif source.__visit_name__ == "alias":
        raise TenantViolation("an alias of a table is not scoped")


def _bound(condition: Any) -> set[Any]:
    """The tables that this condition binds to the transaction's tenant."""
    if not isinstance(condition, BooleanClauseList):
        return {condition.left.table} if _binds_tenant(condition) else set()
    if condition.operator is not operator.and_:
        return set()
    return {one.left.table for one in condition.clauses if _binds_tenant(one)}


def _check_condition(condition: Any, tables: Iterable[Any]) -> None:
    bound = _bound(condition)
    for table in tables:
        if table in content_tables() and table not in bound:
            raise TenantViolation(f"{table.name} is not bound to the transaction's tenant")


def _binds_tenant(condition: Any) -> bool:
    return (
        isinstance(condition, BinaryExpression)
        and condition.operator is operator.eq
        and isinstance(condition.left, Column)
        and condition.left.key == TENANT
        and getattr(condition.right, "key", None) == _SESSION_TENANT
    )
