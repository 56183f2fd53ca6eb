"""What an erasure or a purge would delete, counted; nothing is locked and nothing changed."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, false, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from database.identifier import MILLISECOND_DIGITS
from database.models import Conversation, IdempotencyKey, Item, Turn, TurnStatus
from database.repositories.erasure_repository import Counts, children, of_tenants
from database.repositories.recorded_answers import began_with, of_conversations


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """What is to go, with all that belongs to it; by default nothing."""

    turns: ColumnElement[bool] | None = None
    items: ColumnElement[bool] | None = None
    conversations: ColumnElement[bool] | None = None
    idempotency_keys: ColumnElement[bool] | None = None


class ErasurePreview:
    """Counts rows of one tenant by table, each once."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def count(self, doomed: Doomed) -> Counts:
        """What would go. Turns that run stay, and conversations in which one does."""
        running = select(Turn.id).where(Turn.conversation_id == Conversation.id, Turn.status == TurnStatus.RUNNING)
        conversations = select(Conversation.id).where(_or_none(doomed.conversations), ~exists(running))
        turns = select(Turn.id).where(
            or_(_or_none(doomed.turns), Turn.conversation_id.in_(conversations)), Turn.status != TurnStatus.RUNNING
        )
        touched = union_all(
            select(Turn.conversation_id).where(Turn.id.in_(turns)),
            select(Item.conversation_id).where(_or_none(doomed.items)),
        )
        alone = select(func.substr(Turn.id, 1, MILLISECOND_DIGITS)).where(Turn.conversation_id.is_(None))
        together = alone.where(Turn.id.in_(turns))
        conditions: dict[Any, ColumnElement[bool]] = {
            Conversation: Conversation.id.in_(conversations),
            Turn: Turn.id.in_(turns),
            Item: or_(_or_none(doomed.items), Item.conversation_id.in_(conversations)),
            IdempotencyKey: or_(_or_none(doomed.idempotency_keys), of_conversations(touched), began_with(together)),
        }
        for child, column in children(Turn):
            conditions[child] = or_(conditions.get(child, false()), column.in_(turns))
        return +Counter({model.__tablename__: await self._rows(model, one) for model, one in conditions.items()})

    async def tenant(self, tenant_id: str) -> Counts:
        """All that belongs to the tenant, and itself."""
        counts: Counts = Counter(tenants=1)
        for model in of_tenants():
            counts[model.__tablename__] = await self._rows(model, model.tenant_id == tenant_id)
        return +counts

    async def _rows(self, model: Any, condition: ColumnElement[bool]) -> int:
        return await self._session.scalar(select(func.count()).select_from(model).where(condition)) or 0


def _or_none(condition: ColumnElement[bool] | None) -> ColumnElement[bool]:
    return false() if condition is None else condition
