"""What a turn leaves of what was said: items, in its conversation or its own."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from database.models import Conversation, Item, Turn, TurnStatus
from database.session import Database
from services.answer_delta import CallDelta
from services.inference.message import ToolCall
from services.said_item import SaidItem, answer_item_id
from services.settlement import settlement
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.turns import a_live_turn, an_end, an_opening


@pytest.fixture
def log(database: Database) -> TurnLog:
    return TurnLog(database, owner="0" * 32, lease=timedelta(seconds=30))


async def test_calls_and_their_outputs_are_items_however_many(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    turn = a_live_turn(text="let me see")
    calls = [CallDelta(id=f"call_{number}", call=ToolCall("f", "{}"), number=number) for number in range(5)]
    turn.append(calls)
    output = SaidItem(type="function_call_output", role="tool", text="42", name="f", call_id="c", parts=(1, 1))
    opening = an_opening(tenants.ours, items=[SaidItem(role="user", text="a question"), output])
    await log.open(turn, opening)
    await log.settle(settlement(turn, opening, an_end(finish_reasons=("tool_calls",))))
    async with database.begin(tenants.ours.tenant_id) as session:
        items = list(await session.scalars(select(Item).where(Item.turn_id == turn.id).order_by(Item.position)))
    told, said = items[:2], items[2:]
    assert [(one.type, one.role, one.text, one.answer) for one in told] == [
        ("message", "user", "a question", None),
        ("function_call_output", "tool", "42", None),
    ]
    assert (told[1].name, told[1].call_id, told[1].parts) == ("f", "c", [1, 1])
    assert [one.position for one in items] == list(range(8))
    assert [(one.type, one.call_id, one.text, one.answer) for one in said] == [
        ("message", None, "let me see", 0),
        *(("function_call", call.id, "{}", 0) for call in calls),
    ]
    assert [one.id for one in said] == [answer_item_id(turn.id, 0, number) for number in range(6)]
    assert {one.conversation_id for one in items} == {turn.conversation_id}
    async with database.begin(tenants.ours.tenant_id) as session:
        assert (await session.get_one(Conversation, turn.conversation_id)).length == 8


async def test_the_end_of_an_answer_that_was_cut_is_incomplete(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    for reasons, wanted in ((("stop",), "completed"), (("length",), "incomplete"), ((), "incomplete")):
        turn = a_live_turn(text="a part")
        await log.open(turn, an_opening(tenants.ours))
        await log.settle(
            settlement(turn, an_opening(tenants.ours), an_end(TurnStatus.COMPLETED, finish_reasons=reasons))
        )
        async with database.begin(tenants.ours.tenant_id) as session:
            items = select(Item.status).where(Item.turn_id == turn.id).order_by(Item.position)
            assert list(await session.scalars(items)) == ["completed", wanted]


async def test_a_stored_turn_keeps_all_that_the_model_was_told_in_no_conversation(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    told = [SaidItem(role="developer", text="be brief"), SaidItem(role="user", text="hi")]
    for stored in (True, False):
        turn = a_live_turn(text="ho")
        turn.conversation_id = None
        opening = an_opening(tenants.ours, items=told, stored=stored, labels={"run": "7"})
        await log.open(turn, opening)
        await log.settle(settlement(turn, opening, an_end(finish_reasons=("stop",))))
        async with database.begin(tenants.ours.tenant_id) as session:
            row = await session.get_one(Turn, turn.id)
            items = list(await session.scalars(select(Item).where(Item.turn_id == turn.id).order_by(Item.position)))
        assert (row.stored, row.labels) == (stored, {"run": "7"})
        expected = [("developer", "be brief", 0), ("user", "hi", 1), ("assistant", "ho", 2)] if stored else []
        assert [(one.role, one.text, one.position) for one in items] == expected
