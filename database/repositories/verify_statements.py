"""Statements that look for what must not be, in the rows of one tenant.

Each is one statement, so that it sees one moment of a service that runs, and returns what is told of a finding.
"""

from typing import Any

from sqlalchemy import ForeignKeyConstraint, Select, Table, and_, exists, func, literal, or_, select

from database.models import ApiKey, Base, Conversation, Item, Lease, Limit, Tenant, Turn, TurnStatus, Usage
from database.portable import portable
from database.prepared import OWN_TENANT, Prepared, given
from database.repositories.usage_statements import SUMS
from database.tenancy import TENANT, content_tables

# The pepper of keys that nobody can have: they stand for the keys of turns that were brought in from elsewhere.
IMPORTED = "imported"
# Findings of a kind that are listed; more say nothing new.
MOST = 100

_conversations: Any = Conversation.__table__
_items: Any = Item.__table__
_leases: Any = Lease.__table__
_limits: Any = Limit.__table__
_turns: Any = Turn.__table__
_usage: Any = Usage.__table__
_keys: Any = ApiKey.__table__
_runs = _turns.c.status == TurnStatus.RUNNING.value
_leased = (_turns.c.tenant_id == OWN_TENANT, _leases.c.turn_id == _turns.c.id)
_DAY_LENGTH = len("2026-11-22")


def references() -> dict[str, Prepared]:
    """For every foreign key of every table, by name: the keys of rows that refer to nothing.

    That to tenants aside: who looks at a tenant's rows knows that there is one.
    """
    return {
        f"{table.name} to {constraint.referred_table.name} ({constraint.name})": Prepared(_lost(table, constraint))
        for table in Base.metadata.sorted_tables
        for constraint in sorted(table.foreign_key_constraints, key=lambda one: str(one.name))
        if constraint.referred_table is not Tenant.__table__
    }


def _lost(table: Table, constraint: ForeignKeyConstraint) -> Select[Any]:
    parent = constraint.referred_table
    found = exists(
        select(literal(1))
        .select_from(parent)
        .where(*_own(parent), *_own(table), *(one.parent == one.column for one in constraint.elements))
        .correlate(table)
    )
    refers = (one.parent.is_not(None) for one in constraint.elements)
    return select(*table.primary_key).where(table.c[TENANT] == OWN_TENANT, *refers, ~found).limit(MOST)


def _own(table: Table) -> list[Any]:
    return [table.c[TENANT] == OWN_TENANT] if table in content_tables() else []


# A turn that runs has a lease, or nobody would ever settle it; one that has ended has none.
_lease = select(literal(1)).select_from(_leases).where(*_leased).correlate(_turns)
WITHOUT_LEASE = Prepared(
    select(_turns.c.id).where(_turns.c.tenant_id == OWN_TENANT, _runs, ~exists(_lease)).limit(MOST)
)
_running = select(literal(1)).select_from(_turns).where(*_leased, _runs).correlate(_leases)
LEASE_OF_NONE = Prepared(
    select(_leases.c.turn_id).where(_leases.c.tenant_id == OWN_TENANT, ~exists(_running)).limit(MOST)
)
EXPIRED_LEASE = Prepared(
    select(_leases.c.turn_id)
    .where(_leases.c.tenant_id == OWN_TENANT, _leases.c.expires_at < given("at", _leases.c.expires_at))
    .limit(MOST)
)

_counted = (
    select(func.count())
    .select_from(_turns.join(_keys, _keys.c.id == _turns.c.key_id))
    .where(_turns.c.tenant_id == OWN_TENANT, _limits.c.tenant_id == OWN_TENANT, _runs)
    .where(or_(_limits.c.subject == OWN_TENANT, func.coalesce(_keys.c.limit_subject, _keys.c.id) == _limits.c.subject))
    .correlate(_limits)
    .scalar_subquery()
)
# What limits count as running is what runs.
RUNNING = Prepared(
    select(_limits.c.subject, _limits.c.running, _counted)
    .where(_limits.c.tenant_id == OWN_TENANT, _limits.c.running != _counted)
    .limit(MOST)
)

_said = (
    select(
        _items.c.conversation_id,
        func.count().label("items"),
        func.max(_items.c.position).label("last"),
    )
    .where(_items.c.tenant_id == OWN_TENANT, _items.c.conversation_id.is_not(None))
    .group_by(_items.c.conversation_id)
    .subquery()
)
_with_items = select(_conversations.c.id, _conversations.c.length, _said.c["items"], _said.c.last).join_from(
    _conversations, _said, _said.c.conversation_id == _conversations.c.id
)
# The next item would get a position that is taken.
OVERRUN = Prepared(
    _with_items.where(_conversations.c.tenant_id == OWN_TENANT, _said.c.last >= _conversations.c.length).limit(MOST)
)
# Erasing leaves gaps, so that they need not be wrong.
GAPS = Prepared(
    _with_items.where(
        _conversations.c.tenant_id == OWN_TENANT,
        _said.c.last < _conversations.c.length,
        _said.c["items"] < _conversations.c.length,
    ).limit(MOST)
)


def usage(dialect: str) -> Prepared:
    """Days, keys and models whose turns add up to more than their usage: turn by turn, then usage.

    Less is right: what is erased stays in the usage. Turns that were brought in were used elsewhere.
    """
    names = SUMS[: SUMS.index("first_token_ms")]
    day = func.substr(portable(_turns.c.created_at, dialect), 1, _DAY_LENGTH)
    ended = {
        "requests": func.count(),
        "cancelled": _count(_turns.c.status == TurnStatus.CANCELLED.value),
        "failed": _count(or_(*(_turns.c.status == one.value for one in (TurnStatus.FAILED, TurnStatus.INTERRUPTED)))),
        **{name: func.sum(_turns.c[name]) for name in names if name.endswith("_tokens")},
    }
    logged = (
        select(day.label("day"), _turns.c.key_id, _turns.c.model, *(one.label(name) for name, one in ended.items()))
        .join_from(_turns, _keys, _keys.c.id == _turns.c.key_id)
        .where(_turns.c.tenant_id == OWN_TENANT, ~_runs, _keys.c.pepper_id != IMPORTED)
        .group_by(day, _turns.c.key_id, _turns.c.model)
        .subquery()
    )
    same = and_(
        _usage.c.tenant_id == OWN_TENANT,
        portable(_usage.c.day, dialect) == logged.c.day,
        _usage.c.key_id == logged.c.key_id,
        _usage.c.model == logged.c.model,
    )
    missing = or_(*(logged.c[name] > func.coalesce(_usage.c[name], 0) for name in names))
    columns = (column for name in names for column in (logged.c[name], _usage.c[name].label(f"used_{name}")))
    return Prepared(
        select(logged.c.day, logged.c.key_id, logged.c.model, *columns)
        .select_from(logged.outerjoin(_usage, same))
        .where(missing)
        .limit(MOST)
    )


def _count(condition: Any) -> Any:
    return func.count().filter(condition)
