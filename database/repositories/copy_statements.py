"""Statements that read and write whole tables, page by page in the order of their keys, in portable form.

They are prepared, so that even whoever moves a database goes through the door between tenants.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Table,
    UniqueConstraint,
    and_,
    exists,
    func,
    insert,
    literal,
    select,
    tuple_,
)
from sqlalchemy import column as named

from database.models import Base, Tenant
from database.models.base import ID_LENGTH
from database.portable import array_of, portable, portable_type, stored
from database.prepared import OWN_TENANT, Prepared, given
from database.tenancy import TENANT, content_tables

_PAGE = Column("page", Integer)
_AFTER = "after_"


@dataclass(frozen=True)
class Part:
    """The rows of a table that are copied together: those of the transaction's tenant, or a global table as a whole."""

    table: Table
    whole: bool

    @property
    def key(self) -> list[Column[Any]]:
        """The primary key."""
        return list(self.table.primary_key)

    @property
    def grows(self) -> bool:
        """Whether the last of its rows that a copy has written tells which ones are there.

        Not so of global tables, where rows of others may lie behind it.
        """
        (first, *rest) = self.key
        return not self.whole and not rest and getattr(first.type, "length", None) == ID_LENGTH

    def page(self, dialect: str, *, after: bool) -> Prepared:
        """The next `page` rows by key; with `after`, behind the key that is given as `after_…`."""
        statement = select(*(portable(column, dialect) for column in self.table.columns))
        order, source, conditions = self._walk()
        statement = statement.select_from(source).where(*conditions)
        if after:
            last = [stored(_given(_AFTER + one.name, one), one, dialect) for one in self.key]
            behind = order[0] > last[0] if len(order) == 1 else tuple_(*order) > tuple_(*last)
            statement = statement.where(behind)
        return Prepared(statement.order_by(*order).limit(given("page", _PAGE)))

    def last(self) -> Prepared:
        """The last key, if there is one and the part `grows`."""
        (key,), source, conditions = self._walk()
        return Prepared(select(key).select_from(source).where(*conditions).order_by(key.desc()).limit(1))

    def count(self) -> Prepared:
        """How many rows there are."""
        _, source, conditions = self._walk()
        return Prepared(select(func.count()).select_from(source).where(*conditions))

    def insert(self, dialect: str, *, unless_there: bool = False) -> Prepared:
        """Write rows: one on SQLite, on PostgreSQL lists of values by column.

        With `unless_there` those of the tenant's own rows whose keys are there are left out, which takes longer.
        """
        columns = list(self.table.columns)
        if dialect == "postgresql":
            lists = [_list(column) for column in columns]
            rows = (
                func.unnest(*lists)
                .table_valued(*(named(one.name, portable_type(one)) for one in columns))
                .render_derived()
            )
            values = [rows.c[column.name] for column in columns]
        else:
            values = [_given(column.name, column) for column in columns]
        by_name = {
            column.name: OWN_TENANT if self._is_stamped(column) else stored(value, column, dialect)
            for column, value in zip(columns, values, strict=True)
        }
        if not unless_there:
            if dialect == "sqlite":
                return Prepared(insert(self.table).values(by_name))
            return Prepared(insert(self.table).from_select(list(by_name), select(*by_name.values())))
        same = and_(*self._mine(self.table), *(one == by_name[one.name] for one in self.key))
        missing = ~exists(select(literal(1)).select_from(self.table).where(same).correlate_except(self.table))
        return Prepared(insert(self.table).from_select(list(by_name), select(*by_name.values()).where(missing)))

    def _is_stamped(self, column: Column[Any]) -> bool:
        return column.name == TENANT and self.table in content_tables()

    def _mine(self, table: Table) -> list[ColumnElement[bool]]:
        if self.whole:
            return []
        return [(table.c.id if table is Tenant.__table__ else table.c[TENANT]) == OWN_TENANT]

    def _walk(self) -> tuple[list[Column[Any]], Any, list[ColumnElement[bool]]]:
        """In which order, from where and under which condition rows are read.

        A table whose key is that of another one has no index by tenant: it is reached through the other's, or each of
        a thousand tenants would read all the rows of all of them.
        """
        parent = None if self.whole else _parent(self.table)
        if parent is None:
            return self.key, self.table, self._mine(self.table)
        joined = and_(parent.c[TENANT] == OWN_TENANT, parent.c.id == self.key[0])
        order = [parent.c.id, *self.key[1:]]
        return order, self.table.join(parent, joined), [parent.c[TENANT] == OWN_TENANT, *self._mine(self.table)]


def parts(*, whole: bool) -> list[Part]:
    """Every table, those that others refer to first. `whole`: of global tables all rows, not only one tenant's."""
    content = content_tables()
    return [Part(table, whole and table not in content) for table in Base.metadata.sorted_tables]


def _parent(table: Table) -> Table | None:
    (first, *_) = table.primary_key
    names = {TENANT, first.name}
    for constraint in table.foreign_key_constraints:
        parent = constraint.referred_table
        if {one.parent.name for one in constraint.elements} == names and _is_indexed(parent):
            return parent
    return None


def _is_indexed(table: Table) -> bool:
    unique = (one for one in table.constraints if isinstance(one, UniqueConstraint))
    return any([column.name for column in one.columns] == [TENANT, "id"] for one in unique)


def _given(name: str, column: Column[Any]) -> Any:
    return given(name, Column(name, portable_type(column)))


def _list(column: Column[Any]) -> Any:
    return given(column.name, Column(column.name, array_of(column)))
