"""What answers that were recorded under idempotency keys repeat, and forgetting them with it."""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession

from database.identifier import MILLISECOND_DIGITS, millisecond
from database.models import Conversation, IdempotencyKey, Item, Turn, TurnStatus, TurnText


class RecordedAnswers:
    """Recorded answers of one tenant.

    One of a conversation repeats what was said in it before. One to several prompts is of as many turns, which began
    together; it refers to the first of them.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def forget(self, conversation_ids: Iterable[str | None], turn_ids: Collection[str]) -> int:
        """Before something is erased from these: delete the answers that may repeat it; how many they were.

        Until the transaction ends the conversations are locked. A turn that has read one of them does not begin, and
        the answer of one that has begun is not recorded.

        Args:
            conversation_ids: None for none.
            turn_ids: those without a conversation, locked by the caller.
        """
        conversations = sorted({one for one in conversation_ids if one is not None})
        forgotten = 0
        if conversations:
            # In order: two that erase at once wait for each other instead of deadlocking.
            locked = select(Conversation.id).where(Conversation.id.in_(conversations)).order_by(Conversation.id)
            await self._session.scalars(locked.with_for_update())
            erased_from = update(Conversation).where(Conversation.id.in_(conversations))
            await self._session.execute(erased_from.values(length=Conversation.length + 1))
            forgotten += await self._delete(of_conversations(conversations))
        if turn_ids:
            together = began_with({millisecond(one) for one in turn_ids})
            # So many keys as there are in a day are not walked through for each batch of old turns.
            about = IdempotencyKey.turn_id.between(millisecond(min(turn_ids)), millisecond(max(turn_ids)) + "g")
            forgotten += await self._delete(about & together)
        return forgotten

    async def may_be_kept(self, turn_id: str, turns: int) -> bool:
        """Whether the answer of this turn repeats nothing that was erased; nothing is then until the transaction ends.

        Should its conversation have gone on meanwhile, nobody knows any more. `turns`: how many the answer is of, this
        one and those that began together with it.
        """
        turn = await self._session.scalar(select(Turn).where(Turn.id == turn_id))
        if turn is None:
            return False
        if turns > 1:
            together = Turn.id.startswith(millisecond(turn_id)) & (Turn.created_at == turn.created_at)
            mine = together & (Turn.key_id == turn.key_id) & (Turn.endpoint == turn.endpoint)
            found = await self._session.scalars(select(Turn.id).where(mine).order_by(Turn.id).with_for_update())
            return len(found.all()) >= turns
        if turn.conversation_id is None or turn.status == TurnStatus.RUNNING:
            # What answers while its turn runs says that it has begun.
            return True
        length = select(Conversation.length).where(Conversation.id == turn.conversation_id).with_for_update()
        last = select(func.max(Item.position)).where(Item.turn_id == turn_id)
        here, said = await self._session.scalar(length), await self._session.scalar(last)
        return said is not None and here == said + 1

    async def has_text(self, turn_id: str) -> bool:
        """Whether what is said in this turn is kept, or only its numbers."""
        statement = select(TurnText.turn_id).where(TurnText.turn_id == turn_id)
        return await self._session.scalar(statement) is not None

    async def _delete(self, condition: ColumnElement[bool]) -> int:
        result = await self._session.execute(delete(IdempotencyKey).where(condition))
        assert isinstance(result, CursorResult)  # noqa: S101 - what a DELETE returns
        return result.rowcount


def of_conversations(conversation_ids: Any) -> ColumnElement[bool]:
    """Recorded answers of turns of these conversations, a list or a query, as a condition."""
    return IdempotencyKey.turn_id.in_(select(Turn.id).where(Turn.conversation_id.in_(conversation_ids)))


def began_with(milliseconds: Any) -> ColumnElement[bool]:
    """Recorded answers of turns that began then, a list or a query of what `millisecond` says, as a condition."""
    return func.substr(IdempotencyKey.turn_id, 1, MILLISECOND_DIGITS).in_(milliseconds)
