"""Deleting in bounded batches, children first: every row is counted, and no cascade is longer than its batch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Delete, delete, exists, select, tuple_
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from database.models import Base, Conversation, IdempotencyKey, Item, Tenant, Turn, TurnStatus
from database.repositories.recorded_answers import RecordedAnswers

Counts = Counter[str]


class ErasureRepository:
    """Deletes what belongs to one tenant. Each method deletes one batch and counts its rows by table."""

    def __init__(self, session: AsyncSession, batch: int) -> None:
        """`batch`: turns, conversations or rows of any other table that one call deletes at the most."""
        self._session = session
        self._batch = batch

    async def running(self, condition: ColumnElement[bool]) -> bool:
        """Whether a turn runs that meets this condition."""
        running = select(Turn.id).where(condition, Turn.status == TurnStatus.RUNNING)
        return bool(await self._session.scalar(select(exists(running))))

    async def turns(self, condition: ColumnElement[bool]) -> Counts:
        """The oldest ended turns that meet it, with all that belongs to them."""
        turns, forgotten = await self._locked(condition)
        ids = list(turns)
        if not ids:
            return Counter()
        alone = [one for one in ids if turns[one] is None]
        forgotten += await RecordedAnswers(self._session).forget([], alone)
        counts = Counter({IdempotencyKey.__tablename__: forgotten})
        for child, column in children(Turn):
            counts[child.__tablename__] += await self._rows(delete(child).where(column.in_(ids)))
        counts[Turn.__tablename__] = await self._rows(delete(Turn).where(Turn.id.in_(ids)))
        return +counts

    async def _locked(self, condition: ColumnElement[bool]) -> tuple[dict[str, str | None], int]:
        """The oldest ended turns that meet it, each with its conversation, and how many answers of these are forgotten.

        Locked in order, conversations first, as by whatever else locks both: replicas that purge at once wait for each
        other instead of deadlocking.
        """
        ended = Turn.status != TurnStatus.RUNNING
        found = select(Turn.id, Turn.conversation_id).where(condition, ended).order_by(Turn.id).limit(self._batch)
        forgotten = 0
        while turns := {row.id: row.conversation_id for row in await self._session.execute(found)}:
            forgotten += await RecordedAnswers(self._session).forget(turns.values(), [])
            locked = select(Turn.id).where(Turn.id.in_(turns)).order_by(Turn.id).with_for_update()
            if ids := list(await self._session.scalars(locked)):
                return {one: turns[one] for one in ids}, forgotten
        return {}, forgotten

    async def items(self, condition: ColumnElement[bool]) -> Counts:
        """The oldest items that meet it."""
        found = select(Item.id, Item.conversation_id).where(condition).order_by(Item.id).limit(self._batch)
        items = (await self._session.execute(found)).all()
        forgotten = await RecordedAnswers(self._session).forget((conversation_id for _, conversation_id in items), [])
        locked = select(Item.id).where(Item.id.in_([one for one, _ in items])).order_by(Item.id).with_for_update()
        ids = list(await self._session.scalars(locked))
        deleted = await self._rows(delete(Item).where(Item.id.in_(ids)))
        return +Counter({Item.__tablename__: deleted, IdempotencyKey.__tablename__: forgotten})

    async def idempotency_keys(self, condition: ColumnElement[bool]) -> Counts:
        """The keys of requests that meet it."""
        found = select(IdempotencyKey.key).where(condition).limit(self._batch)
        keys = list(await self._session.scalars(found.with_for_update()))
        deleted = await self._rows(delete(IdempotencyKey).where(IdempotencyKey.key.in_(keys)))
        return +Counter({IdempotencyKey.__tablename__: deleted})

    async def conversations(self, condition: ColumnElement[bool]) -> Counts:
        """The oldest conversations that meet it and have no running turn; of long ones first only turns, then items."""
        ids = await self._idle(condition)
        if not ids:
            return Counter()
        counts = await self.turns(Turn.conversation_id.in_(ids))
        if counts[Turn.__tablename__] < self._batch:
            items = await self.items(Item.conversation_id.in_(ids))
            counts += items
            if items[Item.__tablename__] < self._batch:
                deleted = await self._rows(delete(Conversation).where(Conversation.id.in_(ids)))
                counts += Counter({Conversation.__tablename__: deleted})
        return counts

    async def _idle(self, condition: ColumnElement[bool]) -> list[str]:
        """The oldest conversations that meet it and have no running turn; none begins in them any more."""
        running = select(Turn.id).where(Turn.conversation_id == Conversation.id, Turn.status == TurnStatus.RUNNING)
        found = select(Conversation.id).where(condition, ~exists(running)).order_by(Conversation.id)
        while locked := list(await self._session.scalars(found.limit(self._batch).with_for_update())):
            # Asked again: a statement that waited for a turn to begin does not see it, and it would be deleted along.
            runs = Turn.conversation_id.in_(locked) & (Turn.status == TurnStatus.RUNNING)
            busy = set(await self._session.scalars(select(Turn.conversation_id).where(runs)))
            if idle := [one for one in locked if one not in busy]:
                return idle
        return []

    async def tenant(self, tenant_id: str) -> Counts:
        """Rows of the tenant, table by table in an order that leaves no reference behind, and at last itself."""
        counts: Counts = Counter()
        for model in of_tenants():
            mine = model.tenant_id == tenant_id
            key = [model.__mapper__.get_property_by_column(one).class_attribute for one in model.__table__.primary_key]
            batch = select(*key).where(mine).limit(self._batch - counts.total())
            counts[model.__tablename__] = await self._rows(delete(model).where(mine, tuple_(*key).in_(batch)))
            if counts.total() >= self._batch:
                return +counts
        counts[Tenant.__tablename__] = await self._rows(delete(Tenant).where(Tenant.id == tenant_id))
        return +counts

    async def _rows(self, statement: Delete) -> int:
        options = {"synchronize_session": False}
        result = await self._session.execute(statement, execution_options=options)
        assert isinstance(result, CursorResult)  # noqa: S101 - what a DELETE returns
        return result.rowcount


def _models() -> dict[Any, Any]:
    return {mapper.local_table: mapper.class_ for mapper in Base.registry.mappers}


def children(parent: type[Base]) -> Iterator[tuple[Any, InstrumentedAttribute[str]]]:
    """The tables that refer to this one, and by which column; the tenant's beside it says nothing more."""
    for table, model in _models().items():
        for constraint in table.foreign_key_constraints:
            if constraint.referred_table is parent.__table__:
                (column,) = (key.parent.name for key in constraint.elements if key.column.name == "id")
                yield model, getattr(model, column)


def of_tenants() -> Sequence[Any]:
    """Every table that refers to tenants, those that refer to others before these."""
    models = _models()
    return [
        models[table]
        for table in reversed(Base.metadata.sorted_tables)
        if any(constraint.referred_table is Tenant.__table__ for constraint in table.foreign_key_constraints)
    ]
