"""A copied database holds what its source does."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import Table, select, update

from app.common.errors import ReadOnly
from database.clock import LAST
from database.engine import create_engine
from database.models import ApiKey, Base
from database.portable import portable_type
from database.role import why_unbound
from database.session import Database
from services.audit_service import AuditService
from services.principal import Principal
from tests.administration import Command
from tests.conftest import OWNER, SERVICE, make_tenant
from tests.rows import a_conversation, a_turn, store
from tests.test_tools.test_data_migration.conftest import make_url
from tests.test_tools.test_data_migration.copies import copied, count, fill, on, turns
from tools.data_migration.side import Side


def test_every_table_is_copied_between_any_two_kinds_and_proved_equal(run: Command, urls: tuple[str, str]) -> None:
    ours, theirs = fill(urls[0], "ours", "theirs")
    tables = copied(run, urls)
    assert tables.keys() == Base.metadata.tables.keys()
    assert all(row["equal"] and row["source_rows"] for row in tables.values()), tables
    for principal in (ours, theirs):
        assert turns(urls[1], principal) == turns(urls[0], principal) != {}


def test_a_second_run_changes_nothing_and_says_the_same(run: Command, unlike_urls: tuple[str, str]) -> None:
    fill(unlike_urls[0], "ours")
    assert copied(run, unlike_urls) == copied(run, unlike_urls)


def test_there_and_back_again_is_the_same(
    run: Command, unlike_urls: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fill(unlike_urls[0], "ours", "theirs")
    there = copied(run, unlike_urls)
    back = copied(run, (unlike_urls[1], make_url(request, tmp_path, unlike_urls[0].partition(":")[0])))
    # Each copy is in the audit log of its source.
    names = there.keys() - {"audit_events"}
    assert [there[name]["source_checksum"] for name in names] == [back[name]["target_checksum"] for name in names]


def test_the_first_and_the_last_time_are_copied_as_they_are(run: Command, unlike_urls: tuple[str, str]) -> None:
    ends = {"ended": datetime.min.replace(tzinfo=UTC), "goes on": LAST, "never ends": None}
    made = {end: fill(unlike_urls[0], name)[0].key_id for name, end in ends.items()}

    async def end_keys(database: Database) -> None:
        async with database.begin_global() as session:
            for end, key_id in made.items():
                await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(expires_at=end))

    async def read_ends(database: Database) -> dict[datetime | None, str]:
        async with database.begin_global() as session:
            return {key.expires_at: key.id for key in await session.scalars(select(ApiKey))}

    on(unlike_urls[0], end_keys)
    assert all(row["equal"] for row in copied(run, unlike_urls).values())
    assert on(unlike_urls[1], read_ends) == made


def test_one_tenant_is_copied_alone(run: Command, unlike_urls: tuple[str, str]) -> None:
    ours, theirs = fill(unlike_urls[0], "ours", "theirs")
    (others,) = fill(unlike_urls[1], "others")
    before = turns(unlike_urls[1], others)
    tables = copied(run, unlike_urls, "--tenant", "ours")
    assert all(row["equal"] and row["source_rows"] for row in tables.values()), tables
    assert turns(unlike_urls[1], ours) == turns(unlike_urls[0], ours)
    assert turns(unlike_urls[1], theirs) == {}
    assert turns(unlike_urls[1], others) == before


def test_while_one_tenant_is_copied_the_others_write(run: Command, unlike_urls: tuple[str, str]) -> None:
    ours, theirs = fill(unlike_urls[0], "ours", "theirs")
    copied(run, unlike_urls, "--tenant", "ours")
    on(unlike_urls[0], lambda database: store(database, theirs, a_conversation()))
    with pytest.raises(ReadOnly):
        on(unlike_urls[0], lambda database: store(database, ours, a_conversation()))
    assert run("release", "--from", unlike_urls[0], "--tenant", "ours").output == "released\n"
    on(unlike_urls[0], lambda database: store(database, ours, a_conversation()))
    events = on(unlike_urls[0], lambda database: AuditService(database).page(ours.tenant_id, None, 10))
    done = [event.action for event in events if event.action.startswith("database.")]
    assert done == ["database.release", "database.copy"]


def test_a_dry_run_counts_and_changes_nothing(run: Command, unlike_urls: tuple[str, str]) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    tables = copied(run, unlike_urls, "--dry-run")
    assert (tables["turns"]["source_rows"], tables["turns"]["target_rows"]) == (2, 0)
    on(unlike_urls[0], lambda database: store(database, ours, a_conversation()))
    assert asyncio.run(count(unlike_urls[1])) == 0


def test_the_services_own_role_works_on_a_copy(run: Command, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    urls = make_url(request, tmp_path, "sqlite"), make_url(request, tmp_path, "postgresql")
    ours, theirs = fill(urls[0], "ours", "theirs")
    copied(run, urls)
    url = urls[1].replace(f"//{OWNER}@", f"//{SERVICE}@")
    assert turns(url, ours) == turns(urls[0], ours)
    assert asyncio.run(why_not(url)) is None
    on(url, lambda database: store(database, theirs, a_turn(theirs)))


@pytest.mark.parametrize("table", Base.metadata.sorted_tables, ids=lambda table: table.name)
def test_every_column_has_a_form_that_both_databases_share(table: Table) -> None:
    assert all(portable_type(column) for column in table.columns)


async def why_not(url: str) -> str | None:
    engine = create_engine(url)
    try:
        return await why_unbound(engine)
    finally:
        await engine.dispose()


def test_a_tenant_that_is_made_at_the_last_moment_is_copied_with_what_it_has(
    run: Command, unlike_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(unlike_urls[0], "ours")
    late: list[Principal] = []

    async def make_late(source: Side, _tenant_id: str | None) -> int:
        if not late:
            late.append(await make_tenant(source.database, "late"))
            await store(source.database, late[0], a_turn(late[0]))
        return 0

    monkeypatch.setattr("tools.data_migration.copy_command._running", make_late)
    # Turns are refused already when it looks for running ones; the tenant's comes in before that.
    monkeypatch.setattr("tools.data_migration.copy_command.refuse_turns", AsyncMock())
    copied(run, unlike_urls)
    assert turns(unlike_urls[1], late[0]) == turns(unlike_urls[0], late[0]) != {}
