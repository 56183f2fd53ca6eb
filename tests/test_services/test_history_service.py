"""The log: every row once, in order, however it is filtered and paged; found by text; erased for good."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from app.common.errors import Conflict, NotFound
from database.identifier import first_id_at, new_id
from database.models import Conversation, Item, Turn, TurnStatus, TurnText
from database.repositories.history_repository import HistoryFilter
from database.session import Database
from services import history_service
from services.history_service import HistoryService
from services.key_service import KeyService
from services.key_token import Peppers
from services.principal import Principal
from services.settlement import settlement
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.rows import TESTER, a_conversation, a_text, a_turn, an_item, store
from tests.turns import a_live_turn, an_end, an_opening

_BEGAN = datetime(2026, 11, 22, 13, 0, 0, 999_000, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_STATES = [TurnStatus.COMPLETED, TurnStatus.CANCELLED, TurnStatus.FAILED]


@pytest.fixture
def history(database: Database) -> HistoryService:
    return HistoryService(database)


@dataclass(frozen=True)
class Seeded:
    """250 turns, a millisecond apart, oldest first; and the conversations and keys they belong to."""

    turns: list[Turn]
    conversations: list[str]
    keys: list[str]


@pytest.fixture
async def seeded(database: Database, tenants: TwoTenants) -> Seeded:
    second = await KeyService(database, Peppers(b"s" * 32)).create(TESTER, tenants.ours.tenant_id)
    conversations = [a_conversation() for _ in range(5)]
    keys = [tenants.ours.key_id, second.row.id]
    turns = [
        a_turn(
            tenants.ours,
            created_at=_BEGAN + number * _MILLISECOND,
            conversation_id=conversations[number % 5].id,
            key_id=keys[number % 2],
            user=[None, "a", "b", "a b"][number % 4],
            status=_STATES[number % 3],
        )
        for number in range(250)
    ]
    texts = [a_text(turn, f"question {number}", f"answer {number}") for number, turn in enumerate(turns)]
    foreign = a_turn(tenants.theirs, created_at=_BEGAN, user="a")
    async with database.begin(tenants.ours.tenant_id) as session:
        for rows in (conversations, turns, texts):
            session.add_all(rows)
            await session.flush()
    await store(database, tenants.theirs, foreign, a_text(foreign, "question 1", "answer 1"))
    return Seeded(turns, [one.id for one in conversations], keys)


async def _walk(history: HistoryService, principal: Principal, wanted: HistoryFilter, limit: int) -> list[str]:
    """Ids of all rows, page by page; every page but the last is full unless rows are searched for by text."""
    found: list[str] = []
    while True:
        page = await history.page(principal, wanted, limit)
        assert len(page.rows) <= limit
        assert wanted.text is not None or page.next is None or len(page.rows) == limit
        assert all(text is not None and text.turn_id == turn.id for turn, text in page.rows)
        found += [turn.id for turn, _ in page.rows]
        if page.next is None:
            return found
        wanted = replace(wanted, after=page.next)


async def test_every_filter_pages_through_exactly_its_rows_newest_first(
    history: HistoryService, tenants: TwoTenants, seeded: Seeded
) -> None:
    middle = _BEGAN + 125 * _MILLISECOND
    filters = [
        HistoryFilter(),
        *(HistoryFilter(conversation_id=conversation) for conversation in seeded.conversations),
        *(HistoryFilter(key_id=key) for key in seeded.keys),
        *(HistoryFilter(user=user) for user in ("a", "b", "a b")),
        *(HistoryFilter(status=status) for status in _STATES),
        HistoryFilter(since=middle),
        HistoryFilter(until=middle),
        HistoryFilter(
            conversation_id=seeded.conversations[1], key_id=seeded.keys[1], user="a", status="completed", since=middle
        ),
    ]
    for wanted in filters:
        expected = [turn.id for turn in reversed(seeded.turns) if _matches(turn, wanted)]
        assert expected
        for limit in (7, 100, len(expected)):
            assert await _walk(history, tenants.ours, wanted, limit) == expected, wanted


def _matches(turn: Turn, wanted: HistoryFilter) -> bool:
    return (
        wanted.conversation_id in {None, turn.conversation_id}
        and wanted.user in {None, turn.user}
        and wanted.key_id in {None, turn.key_id}
        and wanted.status in {None, turn.status}
        and (wanted.since is None or turn.created_at >= wanted.since)
        and (wanted.until is None or turn.created_at < wanted.until)
    )


async def test_bounds_in_time_are_exact_to_the_millisecond(
    history: HistoryService, tenants: TwoTenants, seeded: Seeded
) -> None:
    for number in (0, 1, 2, 100, 249):
        at = seeded.turns[number].created_at
        one = HistoryFilter(since=at, until=at + _MILLISECOND)
        assert await _walk(history, tenants.ours, one, 10) == [seeded.turns[number].id]
        assert await _walk(history, tenants.ours, HistoryFilter(since=at, until=at), 10) == []
    everything = HistoryFilter(since=datetime(1, 1, 1, tzinfo=UTC), until=datetime.max.replace(tzinfo=UTC))
    assert len(await _walk(history, tenants.ours, everything, 100)) == 250


async def test_what_belongs_to_another_tenant_finds_nothing_as_what_does_not_exist(
    history: HistoryService, tenants: TwoTenants, seeded: Seeded
) -> None:
    nobody = new_id()
    for wanted in (
        HistoryFilter(conversation_id=seeded.conversations[0]),
        HistoryFilter(key_id=seeded.keys[0]),
        HistoryFilter(text="question 7"),
        HistoryFilter(conversation_id=nobody),
        HistoryFilter(key_id=nobody),
    ):
        assert await _walk(history, tenants.theirs, wanted, 10) == []
    assert len(await _walk(history, tenants.theirs, HistoryFilter(), 10)) == 1
    assert len(await _walk(history, tenants.theirs, HistoryFilter(after=seeded.turns[-1].id), 10)) == 1


async def test_rows_that_come_meanwhile_move_no_page(
    database: Database, history: HistoryService, tenants: TwoTenants, seeded: Seeded
) -> None:
    first = await history.page(tenants.ours, HistoryFilter(), 100)
    newest = a_turn(tenants.ours)
    await store(database, tenants.ours, newest, a_text(newest))
    rest = await _walk(history, tenants.ours, HistoryFilter(after=first.next), 100)
    assert rest == [turn.id for turn in reversed(seeded.turns[:150])]


_TEXTS = {
    "percent": ("100% Percent", ""), "underscore": ("a_b", ""), "neither": ("axb 100 percen", "ab 1000"),
    "slash": ("either/or", ""), "backslash": ("C:\\", ""), "quote": ("it's", ""), "chinese": ("你好,世界", ""),
    "emoji": ("family 👩‍👩‍👧", ""), "response": ("", "Only in the response"),
}  # fmt: skip
_SEARCHES = {
    "100%": ["percent"], "%": ["percent"], "PERCENT": ["percent"], "a_b": ["underscore"], "_": ["underscore"],
    "/": ["slash"], "\\": ["backslash"], "'": ["quote"], "你好": ["chinese"], "世界": ["chinese"], "👩‍👩‍👧": ["emoji"],
    "only in THE response": ["response"], "percen": ["neither", "percent"], "absent": [],
}  # fmt: skip


async def test_a_search_finds_its_text_literally_in_prompts_and_responses(
    database: Database, history: HistoryService, tenants: TwoTenants
) -> None:
    names = {}
    for name, (prompt, response) in _TEXTS.items():
        turn = a_turn(tenants.ours)
        names[turn.id] = name
        await store(database, tenants.ours, turn, a_text(turn, prompt, response))
    for text, expected in _SEARCHES.items():
        found = await _walk(history, tenants.ours, HistoryFilter(text=text), 3)
        assert (text, sorted(names[turn_id] for turn_id in found)) == (text, expected)


async def test_a_search_reads_a_bounded_number_of_rows_and_goes_on_where_it_stopped(
    history: HistoryService, tenants: TwoTenants, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_service, "_SCAN", 50)
    oldest = HistoryFilter(text="question 0")
    page = await history.page(tenants.ours, oldest, 10)
    assert (page.rows, page.next) == ([], seeded.turns[200].id)
    assert await _walk(history, tenants.ours, oldest, 10) == [seeded.turns[0].id]
    for wanted in (HistoryFilter(text="question 1"), HistoryFilter(text="ANSWER", user="a")):
        expected = [
            turn.id
            for number, turn in reversed(list(enumerate(seeded.turns)))
            if _matches(turn, wanted) and (wanted.text == "ANSWER" or str(number).startswith("1"))
        ]
        for limit in (1, 7, 100):
            assert await _walk(history, tenants.ours, wanted, limit) == expected


async def _counts(database: Database, principal: Principal) -> list[int]:
    async with database.begin(principal.tenant_id) as session:
        tables = (Conversation, Turn, TurnText, Item)
        return [await session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


async def _said(database: Database, principal: Principal, conversation_id: str | None = None) -> str:
    """A settled turn in a conversation, new or not; the conversation's id."""
    log = TurnLog(database, owner=new_id(), lease=timedelta(seconds=30))
    turn = a_live_turn(conversation_id, text="an answer")
    opening = an_opening(principal, seen_length=None if conversation_id is None else 2)
    await log.open(turn, opening)
    await log.settle(settlement(turn, opening, an_end()))
    assert turn.conversation_id is not None
    return turn.conversation_id


async def test_a_deleted_turn_is_gone_with_its_text_and_what_it_said(
    database: Database, history: HistoryService, tenants: TwoTenants
) -> None:
    conversation_id = await _said(database, tenants.ours)
    await _said(database, tenants.ours, conversation_id)
    first, second = sorted(await _walk(history, tenants.ours, HistoryFilter(), 10))
    await history.delete_turn(TESTER, tenants.ours.tenant_id, first)
    assert await _walk(history, tenants.ours, HistoryFilter(), 10) == [second]
    assert await _counts(database, tenants.ours) == [1, 1, 1, 2]
    with pytest.raises(NotFound):
        await history.delete_turn(TESTER, tenants.ours.tenant_id, first)


async def test_a_turn_that_has_read_what_is_deleted_before_it_begins_does_not(
    database: Database, history: HistoryService, tenants: TwoTenants
) -> None:
    conversation_id = await _said(database, tenants.ours)
    (said,) = await _walk(history, tenants.ours, HistoryFilter(), 10)
    async with database.begin(tenants.ours.tenant_id) as session:
        read = (await session.get_one(Conversation, conversation_id)).length
    await history.delete_turn(TESTER, tenants.ours.tenant_id, said)
    log = TurnLog(database, owner="0" * 32, lease=timedelta(seconds=30))
    with pytest.raises(Conflict):
        await log.open(a_live_turn(conversation_id), an_opening(tenants.ours, seen_length=read))


async def test_what_runs_is_not_deleted(database: Database, history: HistoryService, tenants: TwoTenants) -> None:
    conversation = a_conversation()
    turn = a_turn(tenants.ours, conversation_id=conversation.id, status=TurnStatus.RUNNING)
    await store(database, tenants.ours, conversation, turn, a_text(turn), an_item(conversation))
    with pytest.raises(Conflict):
        await history.delete_turn(TESTER, tenants.ours.tenant_id, turn.id)
    assert await _counts(database, tenants.ours) == [1, 1, 1, 1]


@pytest.mark.parametrize("status", [TurnStatus.RUNNING, TurnStatus.COMPLETED])
async def test_deleting_what_is_another_tenants_answers_as_for_what_does_not_exist(
    database: Database, history: HistoryService, tenants: TwoTenants, status: TurnStatus
) -> None:
    conversation = a_conversation()
    turn = a_turn(tenants.theirs, conversation_id=conversation.id, status=status)
    await store(database, tenants.theirs, conversation, turn, a_text(turn), an_item(conversation))
    answers = set()
    for tried in (turn.id, first_id_at(_BEGAN)):
        with pytest.raises(NotFound) as caught:
            await history.delete_turn(TESTER, tenants.ours.tenant_id, tried)
        answers.add((caught.value.message, caught.value.code, caught.value.param))
    assert len(answers) == 1
    assert await _counts(database, tenants.theirs) == [1, 1, 1, 1]
