"""Ends of turns that the database does not take at once: tried again, kept on the disk, written once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from app.common.errors import DatabaseUnavailable, OutcomeUnknown, ReadOnly, TurnInterrupted, Unavailable
from database.models import Item, Lease, Turn, TurnStatus, TurnText, Usage
from database.session import Database
from services.limit_service import Limits
from services.settlement import Settlement, settlement
from services.settlement_file import SettlementFile
from services.settlement_service import SettlementService
from services.turn_log import TurnLog
from tests.conftest import TwoTenants
from tests.limited import begin, limit, limit_row
from tests.turns import a_live_turn, an_end, an_opening


class UnsteadyLog(TurnLog):
    """Fails with these, one after another, before or after it has done what was asked; then it works."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, owner="0" * 32, lease=timedelta(seconds=30))
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.away = False

    async def settle(self, end: Settlement) -> None:
        if self.away:
            raise DatabaseUnavailable("away")
        if self.before:
            raise self.before.pop(0)
        await super().settle(end)
        if self.after:
            raise self.after.pop(0)


class Settling:
    """The service of a process, which can die and start again."""

    def __init__(self, database: Database, path: Path) -> None:
        self.log = UnsteadyLog(database)
        self.path = path
        self.start()

    def start(self, patience: float = 0.2) -> None:
        self.file = SettlementFile(self.path)
        self.service = SettlementService(self.log, self.file, patience=patience)


@pytest.fixture
async def settling(database: Database, tmp_path: Path) -> AsyncIterator[Settling]:
    settling = Settling(database, tmp_path / "unsettled.journal")
    yield settling
    settling.file.close()


async def _begun(settling: Settling, tenants: TwoTenants) -> Settlement:
    turn = await begin(settling.log, tenants.ours, text="an answer")
    return settlement(turn, an_opening(tenants.ours), an_end(finish_reasons=("stop",)))


async def _assert_ended_once(database: Database, tenants: TwoTenants, *ends: Settlement) -> None:
    ids = [end.turn_id for end in ends]
    async with database.begin(tenants.ours.tenant_id) as session:
        rows = list(await session.scalars(select(Turn).where(Turn.id.in_(ids))))
        texts = set(await session.scalars(select(TurnText.response).where(TurnText.turn_id.in_(ids))))
        items = await session.scalar(select(func.count()).select_from(Item))
        (usage,) = await session.scalars(select(Usage))
    async with database.begin_global() as session:
        assert list(await session.scalars(select(Lease))) == []
    assert [row.status for row in rows] == [TurnStatus.COMPLETED] * len(ends)
    assert (texts, items, usage.requests) == ({"an answer"}, 2 * len(ends), len(ends))


@pytest.mark.parametrize("passing", [DatabaseUnavailable("x"), OutcomeUnknown("x"), ReadOnly("x")])
async def test_what_passes_is_tried_again_until_the_end_is_written(
    database: Database, tenants: TwoTenants, settling: Settling, passing: Exception
) -> None:
    settling.start(patience=60)
    settling.log.before = [passing] * 3
    end = await _begun(settling, tenants)
    await settling.service.settle(end)
    assert settling.log.before == []
    assert settling.service.depth == 0
    await _assert_ended_once(database, tenants, end)


async def test_an_end_that_was_written_though_nobody_said_so_is_not_written_twice(
    database: Database, tenants: TwoTenants, settling: Settling
) -> None:
    await limit(database, Limits(turns_at_once=5))
    settling.start(patience=60)
    settling.log.after = [OutcomeUnknown("the connection was lost in its commit")]
    end = await _begun(settling, tenants)
    await settling.service.settle(end)
    await _assert_ended_once(database, tenants, end)
    assert (await limit_row(database, tenants.ours)).running == 0


async def test_what_can_never_be_written_is_not_tried_again_nor_kept(settling: Settling, tenants: TwoTenants) -> None:
    settling.start(patience=60)
    settling.log.before = [IntegrityError(None, None, Exception()), RuntimeError("tried again")]
    with pytest.raises(IntegrityError):
        await settling.service.settle(await _begun(settling, tenants))
    assert (len(settling.log.before), settling.service.depth, settling.service.lost) == (1, 0, 1)


async def test_what_is_not_to_be_kept_is_in_no_file_either(settling: Settling, tenants: TwoTenants) -> None:
    turn, unkept = a_live_turn(text="a secret answer"), an_opening(tenants.ours, keeps_text=False)
    turn.conversation_id = None
    await settling.log.open(turn, unkept)
    settling.log.away = True
    with pytest.raises(DatabaseUnavailable):
        await settling.service.settle(settlement(turn, unkept, an_end(finish_reasons=("stop",))))
    assert settling.service.depth == 1
    assert "secret" not in settling.path.read_text(encoding="utf-8")


async def test_a_turn_given_up_is_not_kept(database: Database, tenants: TwoTenants, settling: Settling) -> None:
    end = await _begun(settling, tenants)
    await settling.log.interrupt(tenants.ours.tenant_id, end.turn_id)
    with pytest.raises(TurnInterrupted):
        await settling.service.settle(end)
    assert (settling.service.depth, settling.service.lost) == (0, 0)


async def test_while_the_database_is_away_ends_are_kept_and_then_written_by_themselves(
    database: Database, tenants: TwoTenants, settling: Settling
) -> None:
    await limit(database, Limits(turns_at_once=5))
    ends = [await _begun(settling, tenants) for _ in range(3)]
    settling.log.away = True
    running = asyncio.create_task(settling.service.run())
    outcomes = await asyncio.gather(*map(settling.service.settle, ends), return_exceptions=True)
    assert [getattr(outcome, "code", None) for outcome in outcomes] == ["database_unavailable"] * 3
    assert set(settling.service.waiting) == {end.turn_id for end in ends}
    assert settling.service.oldest_age > 0
    with pytest.raises(Unavailable):
        await settling.service.replay()
    settling.log.away = False
    while settling.service.depth:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    await _assert_ended_once(database, tenants, *ends)
    assert (await limit_row(database, tenants.ours)).running == 0
    assert (settling.service.oldest_age, settling.service.lost, settling.file.size) == (0, 0, 0)


@pytest.mark.parametrize("crash", ["before it is written again", "before the file is emptied"])
async def test_after_a_crash_what_was_kept_is_written_exactly_once(
    database: Database, tenants: TwoTenants, settling: Settling, crash: str
) -> None:
    ends = [await _begun(settling, tenants) for _ in range(2)]
    settling.log.away = True
    await asyncio.gather(*map(settling.service.settle, ends), return_exceptions=True)
    settling.log.away = False
    if crash == "before the file is emptied":
        for end in ends:
            await settling.log.settle(end)
    settling.file.close()
    settling.start()
    assert settling.service.depth == 2
    await settling.service.replay()
    await _assert_ended_once(database, tenants, *ends)
    settling.file.close()
    settling.start()
    assert settling.service.depth == 0


async def test_what_the_database_refuses_for_good_is_put_aside_and_holds_up_no_other(
    database: Database, tenants: TwoTenants, settling: Settling, tmp_path: Path
) -> None:
    refused, taken = await _begun(settling, tenants), await _begun(settling, tenants)
    settling.log.away = True
    await asyncio.gather(*map(settling.service.settle, (refused, taken)), return_exceptions=True)
    settling.log.away, settling.log.before = False, [IntegrityError(None, None, Exception())]
    await settling.service.replay()
    assert (settling.service.depth, settling.service.lost) == (0, 1)
    await settling.log.interrupt(tenants.ours.tenant_id, refused.turn_id)
    # Whoever looks after the service puts it back.
    settling.file.close()
    (tmp_path / "unsettled.refused").rename(tmp_path / "unsettled.journal")
    settling.start()
    assert set(settling.service.waiting) == {refused.turn_id}
    await settling.service.replay()
    async with database.begin(tenants.ours.tenant_id) as session:
        assert (await session.get_one(Turn, taken.turn_id)).status == TurnStatus.COMPLETED
        assert (await session.get_one(Turn, refused.turn_id)).status == TurnStatus.INTERRUPTED
        assert (await session.get_one(TurnText, refused.turn_id)).response == "an answer"


async def test_an_end_that_neither_database_nor_disk_takes_is_counted_as_lost(
    tenants: TwoTenants, settling: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    end = await _begun(settling, tenants)
    settling.log.away = True
    monkeypatch.setattr(SettlementFile, "append", full)
    with pytest.raises(DatabaseUnavailable):
        await settling.service.settle(end)
    assert (settling.service.depth, settling.service.lost) == (0, 1)


async def test_no_turn_begins_while_the_file_is_full(
    tenants: TwoTenants, settling: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = await _begun(settling, tenants)
    settling.service.check_room()
    settling.log.away = True
    with pytest.raises(DatabaseUnavailable):
        await settling.service.settle(end)
    monkeypatch.setattr("services.settlement_service.MOST_BYTES", settling.file.size)
    with pytest.raises(DatabaseUnavailable):
        settling.service.check_room()
    settling.log.away = False
    await settling.service.replay()
    settling.service.check_room()
