"""The two transactions of a turn: what they write, and when they refuse."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app.common.errors import Conflict, GenerationFailed, TurnInterrupted, Unauthenticated, Unavailable
from database.clock import now
from database.models import Base, Conversation, Item, Lease, Turn, TurnStatus, TurnText, Usage
from database.session import Database
from services.answer_delta import TextDelta
from services.principal import Principal
from services.said_item import SaidItem
from services.settlement import settlement
from services.turn_end import TurnEnd
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.turns import a_live_turn, an_end, an_opening

_LEASE = timedelta(seconds=30)
_TWO_ENDS = TurnStatus.COMPLETED, TurnStatus.FAILED
_WRITTEN: list[type[Base]] = [Conversation, Turn, TurnText, Item, Lease]


@pytest.fixture
def log(database: Database) -> TurnLog:
    return TurnLog(database, owner="0" * 32, lease=_LEASE)


async def _said(database: Database, principal: Principal, conversation_id: str | None) -> list[tuple[int, str, str]]:
    async with database.begin(principal.tenant_id) as session:
        items = await session.scalars(
            select(Item).where(Item.conversation_id == conversation_id).order_by(Item.position)
        )
        return [(item.position, item.role, item.text) for item in items]


async def _counts(database: Database, principal: Principal) -> dict[str, int]:
    async with database.begin(principal.tenant_id) as session:
        return {
            model.__name__: await session.scalar(select(func.count()).select_from(model)) or 0 for model in _WRITTEN
        }


async def _row(database: Database, principal: Principal, turn_id: str) -> tuple[Turn, TurnText]:
    async with database.begin(principal.tenant_id) as session:
        return await session.get_one(Turn, turn_id), await session.get_one(TurnText, turn_id)


async def _length(database: Database, principal: Principal, conversation_id: str | None) -> int:
    async with database.begin(principal.tenant_id) as session:
        return (await session.get_one(Conversation, conversation_id)).length


async def test_opening_writes_all_that_is_known_before_the_first_byte(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    turn = a_live_turn(dropped_turns=2)
    opening = an_opening(tenants.ours, user="a user", parameters={"top_p": 0.5}, prompt="你好 👩‍👩‍👧")
    await log.open(turn, opening)
    row, text = await _row(database, tenants.ours, turn.id)
    assert (row.status, row.finished_at, row.created_at) == (TurnStatus.RUNNING, None, turn.created_at)
    assert (row.key_id, row.user, row.conversation_id) == (tenants.ours.key_id, "a user", turn.conversation_id)
    assert (row.endpoint, row.model, row.parameters) == (opening.endpoint, opening.model, {"top_p": 0.5})
    assert (row.prompt_tokens, row.completion_tokens, row.dropped_turns) == (5, 0, 2)
    assert (text.prompt, text.response) == ("你好 👩‍👩‍👧", "")
    async with database.begin_global() as session:
        lease = await session.get_one(Lease, turn.id)
    assert (lease.tenant_id, lease.owner) == (tenants.ours.tenant_id, "0" * 32)
    assert lease.expires_at == turn.created_at + _LEASE


async def test_a_completed_turn_is_settled_said_and_free_of_its_lease(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    turn = a_live_turn(first_token_at=now())
    opening = an_opening(tenants.ours)
    await log.open(turn, opening)
    turn.append([TextDelta("an ")])
    turn.append([TextDelta("answer")])
    await log.settle(settlement(turn, opening, an_end(finish_reasons=("stop",))))
    row, text = await _row(database, tenants.ours, turn.id)
    assert (row.status, row.finish_reason, row.error) == (TurnStatus.COMPLETED, "stop", None)
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (5, 2, 7)
    assert row.first_token_at == turn.first_token_at
    assert row.finished_at is not None
    assert row.finished_at >= turn.created_at
    assert text.response == "an answer"
    said = [(0, "user", "a question"), (1, "assistant", "an answer")]
    assert await _said(database, tenants.ours, turn.conversation_id) == said
    assert await _length(database, tenants.ours, turn.conversation_id) == 2
    assert (await _counts(database, tenants.ours))["Lease"] == 0


async def test_a_history_that_was_brought_along_comes_before_the_turn(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    turn = a_live_turn(text="third")
    opening = an_opening(
        tenants.ours, history=[SaidItem(role="system", text="first"), SaidItem(role="user", text="second")]
    )
    await log.open(turn, opening)
    assert await _length(database, tenants.ours, turn.conversation_id) == 2
    await log.settle(settlement(turn, opening, an_end()))
    said = await _said(database, tenants.ours, turn.conversation_id)
    assert said == [(0, "system", "first"), (1, "user", "second"), (2, "user", "a question"), (3, "assistant", "third")]


async def test_a_conversation_goes_on_where_it_was(database: Database, tenants: TwoTenants, log: TurnLog) -> None:
    first = a_live_turn(text="one")
    await log.open(first, an_opening(tenants.ours))
    await log.settle(settlement(first, an_opening(tenants.ours), an_end()))
    second = a_live_turn(first.conversation_id, text="two")
    opening = an_opening(tenants.ours, seen_length=2, prompt="and then?")
    await log.open(second, opening)
    await log.settle(settlement(second, opening, an_end()))
    said = await _said(database, tenants.ours, first.conversation_id)
    assert said[2:] == [(2, "user", "and then?"), (3, "assistant", "two")]


@pytest.mark.parametrize(
    ("end", "text", "is_said"),
    [
        (an_end(TurnStatus.COMPLETED), "", True),
        (an_end(TurnStatus.CANCELLED, error=Unavailable("Cancelled.")), "a part", True),
        (an_end(TurnStatus.CANCELLED, error=Unavailable("Cancelled.")), "", False),
        (an_end(TurnStatus.FAILED, error=GenerationFailed("No.", code="out_of_memory")), "a part", False),
    ],
)
async def test_only_what_a_conversation_can_go_on_from_is_said_but_every_text_is_kept(
    database: Database, tenants: TwoTenants, log: TurnLog, end: TurnEnd, text: str, is_said: bool
) -> None:
    turn = a_live_turn(text=text)
    await log.open(turn, an_opening(tenants.ours))
    await log.settle(settlement(turn, an_opening(tenants.ours), end))
    row, kept = await _row(database, tenants.ours, turn.id)
    assert (row.status, row.error) == (end.status, "out_of_memory" if end.status == TurnStatus.FAILED else None)
    assert kept.response == text
    said = [(0, "user", "a question"), (1, "assistant", text)] if is_said else []
    assert await _said(database, tenants.ours, turn.conversation_id) == said


async def test_a_second_running_turn_of_a_conversation_is_refused_and_leaves_nothing(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    first = a_live_turn()
    await log.open(first, an_opening(tenants.ours))
    before = await _counts(database, tenants.ours)
    with pytest.raises(Conflict) as caught:
        await log.open(a_live_turn(first.conversation_id), an_opening(tenants.ours, seen_length=0))
    assert (caught.value.code, caught.value.retry_after) == ("conversation_locked", 1)
    assert await _counts(database, tenants.ours) == before
    await log.settle(settlement(first, an_opening(tenants.ours), an_end()))


async def test_of_turns_that_begin_at_once_in_a_conversation_one_runs(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    first = a_live_turn()
    await log.open(first, an_opening(tenants.ours))
    await log.settle(settlement(first, an_opening(tenants.ours), an_end()))
    turns = [a_live_turn(first.conversation_id) for _ in range(5)]
    opening = an_opening(tenants.ours, seen_length=2)
    ends = await asyncio.gather(*(log.open(turn, opening) for turn in turns), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["Conflict"] * 4 + ["NoneType"]


async def test_conversations_and_tenants_do_not_lock_each_other(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    for principal in (tenants.ours, tenants.ours, tenants.theirs):
        await log.open(a_live_turn(), an_opening(principal))
    assert (await _counts(database, tenants.ours))["Turn"] == 2


async def test_a_turn_that_was_overtaken_since_it_read_the_conversation_is_refused(
    tenants: TwoTenants, log: TurnLog
) -> None:
    first = a_live_turn()
    await log.open(first, an_opening(tenants.ours))
    await log.settle(settlement(first, an_opening(tenants.ours), an_end()))
    with pytest.raises(Conflict) as caught:
        await log.open(a_live_turn(first.conversation_id), an_opening(tenants.ours, seen_length=0))
    assert caught.value.code == "conversation_locked"


async def test_another_tenants_conversation_is_refused_as_one_that_does_not_exist(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    theirs = a_live_turn()
    await log.open(theirs, an_opening(tenants.theirs))
    await log.settle(settlement(theirs, an_opening(tenants.theirs), an_end(TurnStatus.FAILED)))
    messages = set()
    for conversation_id in (theirs.conversation_id, "0" * 32):
        with pytest.raises(Conflict) as caught:
            await log.open(a_live_turn(conversation_id), an_opening(tenants.ours, seen_length=0))
        messages.add((caught.value.message, caught.value.code))
    assert len(messages) == 1
    assert set((await _counts(database, tenants.ours)).values()) == {0}


async def test_an_opening_that_fails_leaves_nothing(database: Database, tenants: TwoTenants, log: TurnLog) -> None:
    nobody = Principal(tenant_id=tenants.ours.tenant_id, key_id="0" * 32, scopes=frozenset())
    with pytest.raises(Unauthenticated):
        await log.open(a_live_turn(), an_opening(nobody, history=[SaidItem(role="user", text="before")]))
    assert set((await _counts(database, tenants.ours)).values()) == {0}


async def test_an_end_written_again_changes_nothing_and_another_one_is_refused(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    turn = a_live_turn(text="an answer")
    await log.open(turn, an_opening(tenants.ours))
    first, second = [settlement(turn, an_opening(tenants.ours), an_end(status)) for status in _TWO_ENDS]
    # The two kinds of end are different statements, of which either may be faster.
    await asyncio.gather(log.settle(first), log.settle(first))
    ends = await asyncio.gather(log.settle(second), log.settle(first), return_exceptions=True)
    assert [type(end) for end in ends] == [TurnInterrupted, type(None)]
    assert len(await _said(database, tenants.ours, turn.conversation_id)) == 2
    async with database.begin(tenants.ours.tenant_id) as session:
        (usage,) = await session.scalars(select(Usage))
    assert (usage.requests, usage.completion_tokens) == (1, 7)


async def test_a_turn_cannot_be_settled_by_another_tenant(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    turn = a_live_turn()
    await log.open(turn, an_opening(tenants.theirs))
    with pytest.raises(Unavailable):
        await log.settle(settlement(turn, an_opening(tenants.ours), an_end()))
    assert (await _row(database, tenants.theirs, turn.id))[0].status == TurnStatus.RUNNING


async def test_a_sign_of_life_prolongs_the_leases_it_names(
    database: Database, tenants: TwoTenants, log: TurnLog
) -> None:
    past = now() - timedelta(minutes=5)
    named, other = a_live_turn(created_at=past), a_live_turn(created_at=past)
    for turn in (named, other):
        await log.open(turn, an_opening(tenants.ours))
    await log.renew([named.id])
    async with database.begin_global() as session:
        assert (await session.get_one(Lease, named.id)).expires_at > now()
        assert (await session.get_one(Lease, other.id)).expires_at == past + _LEASE
