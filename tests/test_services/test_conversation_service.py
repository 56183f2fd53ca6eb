"""Writers of one conversation: what they say stands in one order, whole, once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import select

from app.common.errors import Conflict
from database.models import Item
from database.session import Database
from services.conversation_service import ConversationService
from services.principal import Principal
from services.said_item import SaidItem
from services.settlement import settlement
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.turns import a_live_turn, an_end, an_opening

# On each of the two databases.
_ROUNDS = 500


async def _until_free(say: Callable[[], Awaitable[object]]) -> None:
    """As clients do who are told that the conversation is locked."""
    while True:
        with suppress(Conflict):
            await say()
            return


async def _add(conversations: ConversationService, principal: Principal, conversation_id: str, text: str) -> None:
    items = [SaidItem(role="user", text=f"{text} {part}") for part in "ab"]
    await _until_free(lambda: conversations.add(principal, conversation_id, items))


async def _answer(
    conversations: ConversationService, log: TurnLog, principal: Principal, conversation_id: str, text: str
) -> None:
    async def answer() -> None:
        length = (await conversations.get(principal, conversation_id)).length
        turn = a_live_turn(conversation_id, text=f"{text} b")
        opening = an_opening(principal, seen_length=length, prompt=f"{text} a")
        await log.open(turn, opening)
        await log.settle(settlement(turn, opening, an_end(finish_reasons=("stop",))))

    await _until_free(answer)


async def test_two_writers_leave_one_order_without_gaps_and_nothing_twice(
    database: Database, tenants: TwoTenants
) -> None:
    conversations, log = ConversationService(database), TurnLog(database, owner="0" * 32, lease=timedelta(minutes=5))
    conversation = await conversations.create(tenants.ours, [], {}, None)
    said: list[str] = []
    for number in range(_ROUNDS):
        # Every tenth round one of them is the model.
        texts = [f"added {number}", f"asked {number}" if number % 10 == 0 else f"also {number}"]
        await asyncio.gather(
            *(
                _answer(conversations, log, tenants.ours, conversation.id, text)
                if text.startswith("asked")
                else _add(conversations, tenants.ours, conversation.id, text)
                for text in texts
            )
        )
        said += texts
    async with database.begin(tenants.ours.tenant_id) as session:
        statement = select(Item).where(Item.conversation_id == conversation.id).order_by(Item.position)
        items = list(await session.scalars(statement))
    assert [item.position for item in items] == list(range(2 * len(said)))
    assert (await conversations.get(tenants.ours, conversation.id)).length == len(items)
    said_so = [item.text for item in items]
    # What was said together stands together.
    assert all(first[:-1] == second[:-1] for first, second in zip(said_so[::2], said_so[1::2], strict=True))
    assert Counter(text[:-2] for text in said_so[::2]) == Counter(said)
