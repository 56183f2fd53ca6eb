"""A copy makes read-only what it copies, says so in the audit log, and takes back nothing but that."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.common.errors import ReadOnly, Unavailable
from database import clock_skew
from database.clock import now
from database.models import TurnStatus
from services.audit_service import AuditService
from services.principal import Principal
from tests.administration import Command, assert_refused
from tests.conftest import OWNER, SERVICE
from tests.rows import a_conversation, a_lease, a_turn, store
from tests.test_tools.test_data_migration.conftest import make_url
from tests.test_tools.test_data_migration.copies import copied, fill, on
from tools.data_migration.side import Side


def events(url: str, tenant_id: str | None = None) -> list[tuple[str, str | None]]:
    """Of copies, newest first: what was done, and whose rows it was about."""
    found = on(url, lambda database: AuditService(database).page(tenant_id, None, 100))
    return [(event.action, event.tenant_id) for event in found if event.action.startswith("database.")]


def write(url: str, principal: Principal) -> None:
    on(url, lambda database: store(database, principal, a_conversation()))


def assert_read_only(url: str, principal: Principal) -> None:
    with pytest.raises(ReadOnly):
        write(url, principal)


def run_a_turn(url: str, principal: Principal) -> None:
    running = a_turn(principal, status=TurnStatus.RUNNING)
    lease = a_lease(principal, running.id, expires_at=now() + timedelta(hours=1))
    on(url, lambda database: store(database, principal, running, lease))


def give_up(run: Command, urls: tuple[str, str], *sentences: str) -> None:
    ended = run("copy", "--from", urls[0], "--to", urls[1], "--wait", "0")
    for sentence in ("1 turns are still running", *sentences):
        assert_refused(ended, sentence)


@pytest.fixture
def other_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A second target."""
    return make_url(request, tmp_path, "sqlite")


def test_a_copy_that_gives_up_leaves_a_tenant_that_has_moved_read_only(
    run: Command, unlike_urls: tuple[str, str], other_url: str
) -> None:
    ours, theirs = fill(unlike_urls[0], "ours", "theirs")
    copied(run, unlike_urls, "--tenant", "ours")
    run_a_turn(unlike_urls[0], theirs)
    give_up(run, (unlike_urls[0], other_url))
    assert_read_only(unlike_urls[0], ours)
    write(unlike_urls[0], theirs)


def test_a_trial_leaves_a_tenant_that_has_moved_read_only(
    run: Command, unlike_urls: tuple[str, str], other_url: str
) -> None:
    ours, theirs = fill(unlike_urls[0], "ours", "theirs")
    copied(run, unlike_urls, "--tenant", "ours")
    copied(run, (unlike_urls[0], other_url), "--release")
    assert_read_only(unlike_urls[0], ours)
    write(unlike_urls[0], theirs)


def test_a_release_of_everything_is_also_one_of_the_tenants_that_were_copied_alone(
    run: Command, unlike_urls: tuple[str, str], other_url: str
) -> None:
    ours, theirs = fill(unlike_urls[0], "ours", "theirs")
    copied(run, unlike_urls, "--tenant", "ours")
    copied(run, (unlike_urls[0], other_url))
    assert run("release", "--from", unlike_urls[0]).output == "released\n"
    write(unlike_urls[0], ours)
    write(unlike_urls[0], theirs)
    assert events(unlike_urls[0], ours.tenant_id)[0] == ("database.release", ours.tenant_id)
    assert ("database.release", None) in events(unlike_urls[0])
    assert run("release", "--from", unlike_urls[0]).output == "it was not read-only\n"


def test_a_copy_that_gives_up_is_audited_as_released(run: Command, unlike_urls: tuple[str, str]) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    run_a_turn(unlike_urls[0], ours)
    give_up(run, unlike_urls)
    assert events(unlike_urls[0]) == [("database.release", None), ("database.copy", None)]


def test_a_copy_that_goes_on_with_another_and_gives_up_leaves_the_source_as_it_was(
    run: Command, unlike_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    run_a_turn(unlike_urls[0], ours)

    async def break_off(_source: Side, _tenant_id: str | None) -> int:
        raise Unavailable("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("tools.data_migration.copy_command._running", break_off)
        assert_refused(run("copy", "--from", unlike_urls[0], "--to", unlike_urls[1]), "stopped")
    give_up(run, unlike_urls, "stays read-only, as it was before")
    with pytest.raises(ReadOnly):
        on(unlike_urls[0], lambda database: store(database, ours, a_turn(ours)))
    assert events(unlike_urls[0]) == [("database.copy", None)]


def test_each_tenants_copy_is_audited_once(run: Command, unlike_urls: tuple[str, str]) -> None:
    both = fill(unlike_urls[0], "ours", "theirs")
    for name in ("ours", "theirs", "theirs"):
        copied(run, unlike_urls, "--tenant", name)
    for principal in both:
        assert events(unlike_urls[0], principal.tenant_id) == [("database.copy", principal.tenant_id)]


def test_a_tenant_is_not_released_alone_while_the_whole_database_is_read_only(
    run: Command, unlike_urls: tuple[str, str], other_url: str
) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    copied(run, unlike_urls)
    for words in (["release"], ["copy", "--to", other_url, "--release"]):
        assert_refused(run(*words, "--from", unlike_urls[0], "--tenant", "ours"), "release it without --tenant")
    assert_read_only(unlike_urls[0], ours)
    # The copy did not begin.
    assert run.json("copy", "--from", unlike_urls[0], "--to", other_url, "--dry-run")[0]["target_rows"] == 0


def test_a_tenant_of_a_database_that_is_read_only_is_copied_and_stays_so(
    run: Command, unlike_urls: tuple[str, str], other_url: str
) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    copied(run, unlike_urls)
    assert all(row["equal"] for row in copied(run, (unlike_urls[0], other_url), "--tenant", "ours").values())
    copied(run, unlike_urls, "--release")
    assert_read_only(unlike_urls[0], ours)


def test_a_copy_that_is_refused_is_not_audited(run: Command, postgres_url: str, other_url: str) -> None:
    assert_refused(run("copy", "--from", postgres_url, "--to", other_url), "use the URL of their owner")
    assert events(postgres_url) == []


def test_a_copy_that_cannot_be_audited_refuses_nobody(
    run: Command, unlike_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (ours,) = fill(unlike_urls[0], "ours")

    def fail(*_: object, **__: object) -> None:
        raise Unavailable("no audit log")

    monkeypatch.setattr("tools.data_migration.copy_command.record", fail)
    assert_refused(run("copy", "--from", unlike_urls[0], "--to", unlike_urls[1]), "no audit log")
    on(unlike_urls[0], lambda database: store(database, ours, a_turn(ours)))


@pytest.mark.parametrize(
    ("kind", "otherwise"),
    [
        ("sqlite", lambda url: url.replace("sqlite:", "sqlite+aiosqlite:")),
        # The commands run where the file is.
        ("sqlite", lambda url: f"sqlite:///{Path(url).name}"),
        ("postgresql", lambda url: url.replace("postgresql:", "postgres:")),
        ("postgresql", lambda url: url.replace(f"//{OWNER}@", f"//{SERVICE}@")),
    ],
)
def test_a_database_is_not_copied_into_itself_however_it_is_written(
    run: Command, request: pytest.FixtureRequest, tmp_path: Path, kind: str, otherwise: Callable[[str], str]
) -> None:
    url = make_url(request, tmp_path, kind)
    (ours,) = fill(url, "ours")
    assert_refused(run("copy", "--from", url, "--to", otherwise(url)), "the same database")
    write(url, ours)


def test_a_tenants_name_that_is_empty_is_nobodys(run: Command, unlike_urls: tuple[str, str]) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    ended = run("copy", "--from", unlike_urls[0], "--to", unlike_urls[1], "--tenant", "")
    assert_refused(ended, "There is no tenant")
    write(unlike_urls[0], ours)


def test_a_copy_by_a_clock_that_is_ahead_does_not_take_turns_that_run_for_dead(
    run: Command, request: pytest.FixtureRequest, tmp_path: Path, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_url(request, tmp_path, "postgresql")
    (ours,) = fill(source, "ours")
    run_a_turn(source, ours)
    monkeypatch.setattr(clock_skew, "now", lambda: now() + 2 * clock_skew.LONGEST_SKEW)
    assert_refused(run("copy", "--from", source, "--to", other_url, "--wait", "0"), "clock is wrong")
    on(source, lambda database: store(database, ours, a_turn(ours)))
    assert events(source) == []
