"""Purging and erasing from this command line: counted first, in batches, and the same as what then happens."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from database import clock_skew
from database.clock import now
from database.identifier import new_id
from database.models import Turn
from database.session import Database
from services.principal import Principal
from services.tenant_service import TenantService
from tests.administration import Command, assert_refused
from tests.conftest import make_tenant
from tests.rows import TESTER, a_conversation, a_text, a_turn, an_item, store
from tests.test_tools.test_data_migration.copies import on as work_on


async def _old(database: Database) -> Principal:
    """A tenant that keeps turns for a day: older ones, in a conversation and alone, and one that is not."""
    principal = await make_tenant(database, "ours")
    await TenantService(database).change(TESTER, principal.tenant_id, turn_days=1, conversation_days=2)
    at = now() - timedelta(days=9)
    conversation = a_conversation(id=new_id(at), created_at=at, used_at=at, user="ann")
    said = a_turn(principal, created_at=at, conversation_id=conversation.id, user="ann")
    alone = [a_turn(principal, created_at=at, user="ann") for _ in range(3)]
    await store(database, principal, conversation, said, a_text(said), an_item(conversation, turn_id=said.id))
    await store(database, principal, *alone, a_turn(principal, user="bob"))
    return principal


async def _turns(database: Database, principal: Principal) -> int:
    async with database.begin(principal.tenant_id) as session:
        return await session.scalar(select(func.count()).select_from(Turn)) or 0


_GONE = {"conversations": 1, "turns": 4, "turn_texts": 1, "items": 1}
_COMMANDS = {
    "purge": (["purge"], _GONE, 1),
    "user": (["erase", "user", "ours", "ann"], _GONE, 1),
    "tenant": (["erase", "tenant", "ours"], _GONE | {"turns": 5, "api_keys": 1, "tenants": 1}, 0),
}


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_dry_run_counts_what_then_goes(on: Command, database_url: str, command: str) -> None:
    words, counts, left = _COMMANDS[command]
    ours = work_on(database_url, _old)
    work_on(database_url, lambda database: TenantService(database).suspend(TESTER, ours.tenant_id))
    assert on.json(*words, "--dry-run") == [counts]
    assert work_on(database_url, lambda database: _turns(database, ours)) == 5
    assert on.json(*words, "--batch", "1", "--pause", "0.01") == [counts]
    assert work_on(database_url, lambda database: _turns(database, ours)) == left


def test_a_purge_by_a_clock_that_is_wrong_is_refused_in_a_sentence(
    run: Command, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATGLM_DATABASE_URL", postgres_url)
    ours = work_on(postgres_url, _old)
    monkeypatch.setattr(clock_skew, "now", lambda: now() - 2 * clock_skew.LONGEST_SKEW)
    for words in (["purge"], ["purge", "--dry-run"]):
        ended = run(*words)
        assert (ended.status, ended.output) == (1, "")
        assert "clock is wrong" in ended.errors
    assert work_on(postgres_url, lambda database: _turns(database, ours)) == 5


def test_what_is_not_there_is_said_in_a_sentence_also_when_it_is_only_counted(on: Command, database_url: str) -> None:
    work_on(database_url, _old)
    for words, sentence in (
        (["conversation", "ours", "0" * 32], "There is no such conversation."),
        (["user", "ours", "nobody"], "Nothing is stored of such a user."),
    ):
        for options in ([], ["--dry-run"]):
            assert_refused(on("erase", *words, *options), sentence)


def test_after_a_large_purge_it_says_what_becomes_of_the_space(
    on: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_on(database_url, _old)
    monkeypatch.setattr("tools.admin.erase_command._WORTH_A_VACUUM", 5)
    assert "VACUUM" not in on("purge", "--dry-run").errors
    assert "VACUUM" in on("purge").errors
    assert "VACUUM" not in on("purge").errors
