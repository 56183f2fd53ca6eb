"""The administrator's command line: what it makes, what it prints, and what it says when it cannot."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from app.common.errors import TenantSuspended, Unauthenticated
from database.clock import now
from database.engine import create_engine
from database.session import Database
from services.principal import TENANT_SCOPES, Principal, Scope
from tests.administration import Admin, Ended, assert_refused, authenticated, cells
from tests.rows import a_conversation, a_text, a_turn, an_item, store


def test_tenants_are_made_and_listed(on: Admin) -> None:
    assert on("tenant", "list").output.strip() == "none"
    assert on.json("tenant", "list") == []
    made = on.json("tenant", "create", "b") + on.json("tenant", "create", "a")
    assert [row["name"] for row in made] == ["b", "a"]
    assert on.json("tenant", "list") == [made[1], made[0]]


def test_a_name_that_is_taken_is_said_in_a_sentence(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    assert_refused(on("tenant", "create", "ours"), "There is a tenant named 'ours' already.")


@pytest.mark.parametrize("command", ["create", "list"])
def test_an_unknown_tenant_is_said_in_a_sentence(on: Admin, command: str) -> None:
    assert_refused(on("key", command, "nobody"), "There is no tenant named 'nobody'.")


def test_a_name_without_room_is_said_in_a_sentence(on: Admin) -> None:
    assert_refused(on("tenant", "create", "x" * 101), "A name has at most 100 characters; this one has 101.")
    on.json("tenant", "create", "ours")
    assert_refused(on("key", "create", "ours", "--name", "x" * 101), "A name has at most 100 characters")


def test_a_key_is_made_that_works_with_every_scope_but_admin(on: Admin, database_url: str) -> None:
    (tenant,) = on.json("tenant", "create", "ours")
    (made,) = on.json("key", "create", "ours", "--name", "laptop")
    assert (made["name"], made["scopes"], made["expires_at"]) == ("laptop", sorted(TENANT_SCOPES), None)
    assert made["key"].startswith(made["prefix"])
    principal = authenticated(database_url, made["key"])
    assert principal == Principal(tenant_id=tenant["id"], key_id=made["id"], scopes=TENANT_SCOPES)


def test_the_first_admin_key_is_made_by_one_command(on: Admin, database_url: str) -> None:
    keys = [on.json("key", "create", "--admin", "--name", name)[0] for name in ("first", "second")]
    principals = [authenticated(database_url, made["key"]) for made in keys]
    assert [principal.scopes for principal in principals] == [{Scope.ADMIN}] * 2
    on.json("tenant", "create", "ours")
    tenant, other = on.json("tenant", "list")
    assert {principal.tenant_id for principal in principals} == {tenant["id"]}
    assert (tenant["administers"], other["administers"]) == (True, False)


def test_a_key_is_either_a_tenants_or_an_administrators(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    for arguments in ((), ("ours", "--admin")):
        assert on("key", "create", *arguments).status == 2
    assert_refused(on("key", "create", "ours", "--scope", "admin"), "Only keys of the administrators")


def test_no_key_is_made_that_may_do_nothing(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    for scope in ("", "none"):
        assert on("key", "create", "ours", "--scope", scope).status == 2
    assert on.json("key", "list", "ours") == []


def test_a_key_may_expire(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    (made,) = on.json("key", "create", "ours", "--days", "36500")
    assert made["expires_at"] > made["created_at"]
    for days in ("0", "-1", "36501", "9" * 30):
        assert on("key", "create", "ours", "--days", days).status == 2


def test_keys_are_listed_without_what_would_let_anybody_in(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    made = [on.json("key", "create", "ours", "--name", name, "--model", "glm")[0] for name in ("first", "second")]
    listed = on.json("key", "list", "ours")
    assert [{"key": row["key"], **shown} for row, shown in zip(made, listed, strict=True)] == made
    output = on("key", "list", "ours").output
    assert not [row for row in made if row["key"] in output]


def test_a_key_is_renamed_expired_rotated_and_revoked(on: Admin, database_url: str) -> None:
    on.json("tenant", "create", "ours")
    (made,) = on.json("key", "create", "ours")
    assert on("key", "rename", made["id"], "website").status == 0
    (new,) = on.json("key", "rotate", made["id"], "--overlap-hours", "1")
    assert new["name"] == "website"
    assert authenticated(database_url, made["key"]).key_id == made["id"]
    assert on("key", "expire", new["id"], "--days", "0").status == 0
    assert on("key", "revoke", made["id"]) == Ended(0, f"revoked {made['id']}\n", "")
    for key in (made, new):
        with pytest.raises(Unauthenticated):
            authenticated(database_url, key["key"])
    old, _ = on.json("key", "list", "ours")
    assert old["replaced_by"] == new["id"]
    assert old["revoked_at"] is not None
    for command in (("rename", "none", "x"), ("revoke", "none"), ("rotate", "none"), ("expire", "none", "--days", "1")):
        assert_refused(on("key", *command), "There is no such key.")


def test_a_key_is_given_other_models_and_no_end(on: Admin, database_url: str) -> None:
    on.json("tenant", "create", "ours")
    (made,) = on.json("key", "create", "ours", "--model", "glm", "--days", "1")
    assert on("key", "models", made["id"], "b", "a").output == f"{made['id']} may use b, a\n"
    assert authenticated(database_url, made["key"]).models == frozenset({"a", "b"})
    assert on("key", "expire", made["id"], "--days", "0").status == 0
    with pytest.raises(Unauthenticated):
        authenticated(database_url, made["key"])
    assert on("key", "expire", made["id"], "--never").output == f"{made['id']} never expires\n"
    assert on("key", "models", made["id"], "--all").status == 0
    assert authenticated(database_url, made["key"]).models is None
    assert on.json("key", "list", "ours")[0]["expires_at"] is None
    for wrong in (("models",), ("models", "a", "--all"), ("expire",), ("expire", "--never", "--days", "1")):
        assert on("key", wrong[0], made["id"], *wrong[1:]).status == 2
    (new,) = on.json("key", "rotate", made["id"])
    assert_refused(on("key", "expire", made["id"], "--never"), "The key was rotated")
    assert on("key", "expire", new["id"], "--never").status == 0


@pytest.mark.parametrize("model", ["", "m" * 257])
def test_a_model_that_cannot_be_is_said_in_a_sentence(on: Admin, model: str) -> None:
    on.json("tenant", "create", "ours")
    (made,) = on.json("key", "create", "ours")
    for command in (("create", "ours", "--model", model), ("models", made["id"], model)):
        assert_refused(on("key", *command), "A model's name is 1 to 256 characters of text.")
    assert [key["models"] for key in on.json("key", "list", "ours")] == [None]


def test_a_tenant_is_renamed_given_a_policy_suspended_and_erased(on: Admin, database_url: str) -> None:
    on.json("tenant", "create", "before")
    (made,) = on.json("key", "create", "before")
    assert on("tenant", "rename", "before", "after").status == 0
    (row,) = on.json("tenant", "policy", "after", "--keep-numbers", "--turn-days", "30", "--conversation-days", "7")
    assert (row["name"], row["keeps_content"], row["turn_days"], row["conversation_days"]) == ("after", False, 30, 7)
    (row,) = on.json("tenant", "policy", "after", "--turn-days", "0")
    assert (row["keeps_content"], row["turn_days"], row["conversation_days"]) == (False, None, 7)
    assert_refused(on("tenant", "erase", "after"), "Suspend the tenant first")
    assert on("tenant", "suspend", "after").status == 0
    with pytest.raises(TenantSuspended):
        authenticated(database_url, made["key"])
    assert on("tenant", "resume", "after").status == 0
    authenticated(database_url, made["key"])
    assert on("tenant", "suspend", "after").status == 0
    assert on.json("tenant", "erase", "after") == [{"api_keys": 1, "tenants": 1}]
    assert on.json("tenant", "list") == []


def test_what_a_tenant_said_is_erased_and_purged(on: Admin, database_url: str) -> None:
    (tenant,) = on.json("tenant", "create", "ours")
    (key,) = on.json("key", "create", "ours")
    principal = Principal(tenant_id=tenant["id"], key_id=key["id"], scopes=TENANT_SCOPES)
    conversation_id = _said(database_url, principal)
    assert on.json("purge") == []
    rows = {"conversations": 1, "turns": 1, "turn_texts": 1, "items": 1}
    assert on.json("erase", "conversation", "ours", conversation_id) == [rows]
    assert_refused(on("erase", "conversation", "ours", conversation_id), "There is no such conversation.")
    _said(database_url, principal)
    assert on.json("erase", "user", "ours", "a user") == [rows]
    assert_refused(on("erase", "user", "ours", "a user"), "Nothing is stored of such a user.")
    _said(database_url, principal, days_ago=3)
    on.json("tenant", "policy", "ours", "--conversation-days", "2")
    assert on.json("purge") == [rows]


def _said(url: str, principal: Principal, days_ago: int = 0) -> str:
    """A conversation of `a user` with a turn; its id."""
    conversation = a_conversation(user="a user", used_at=now() - timedelta(days=days_ago))
    turn = a_turn(principal, conversation_id=conversation.id, user="a user")

    async def said() -> None:
        database = Database(create_engine(url))
        await store(database, principal, conversation, turn, a_text(turn), an_item(conversation, turn_id=turn.id))
        await database.close()

    asyncio.run(said())
    return conversation.id


def test_every_change_is_in_the_audit_log_with_the_user_who_made_it(on: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    on.json("tenant", "create", "theirs")
    (tenant,) = on.json("tenant", "create", "ours")
    on.json("key", "create", "ours")
    events = on.json("audit", "--tenant", "ours")
    assert [event["action"] for event in events] == ["key.create", "tenant.create"]
    assert {(event["actor"], event["tenant_id"]) for event in events} == {("command_line: somebody", tenant["id"])}
    assert on.json("audit", "--limit", "1", "--after", events[0]["id"]) == events[1:]
    assert len(on.json("audit")) == 3
    assert "tenant.create" in on("audit").output
    for wrong in (("--after", "x"), ("--tenant-id", "ours"), ("--tenant", "ours", "--tenant-id", tenant["id"])):
        assert on("audit", *wrong).status == 2


def test_the_log_of_an_erased_tenant_is_found_by_its_id_and_says_its_name(on: Admin) -> None:
    on.json("tenant", "create", "theirs")
    (tenant,) = on.json("tenant", "create", "ours")
    on("tenant", "suspend", "ours")
    on("tenant", "erase", "ours")
    assert_refused(on("audit", "--tenant", "ours"), "There is no tenant named 'ours'.")
    events = on.json("audit", "--tenant-id", tenant["id"])
    assert [event["action"] for event in events] == ["tenant.erased", "tenant.erase", "tenant.suspend", "tenant.create"]
    assert (events[0]["before"], events[1]["before"]["name"], events[1]["after"]) == (None, "ours", None)


def test_a_table_shows_keys_ids_and_names_whole_however_narrow_the_terminal(on: Admin, database_url: str) -> None:
    (tenant,) = on.json("tenant", "create", "a [bold]name[/bold] of some length, as people like them")
    assert {tenant["id"], tenant["name"]} <= cells(on("tenant", "list").output)
    shown = cells(on("key", "create", tenant["name"]).output)
    (key,) = [cell for cell in shown if cell.startswith("sk-chatglm-") and len(cell) == 57]
    key_id = authenticated(database_url, key).key_id
    assert key_id in shown
    assert key_id in cells(on("key", "list", tenant["name"]).output)


def test_a_database_that_was_never_migrated_is_said_in_a_sentence(
    run: Admin, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATGLM_DATABASE_URL", empty_database_url)
    assert_refused(run("tenant", "list"), "database upgrade")
    assert run("database", "upgrade").status == 0
    assert run.json("tenant", "list") == []
    assert run("database", "downgrade", "base").status == 0
    assert_refused(run("tenant", "list"), "database upgrade")


def test_a_revision_that_does_not_exist_is_said_in_a_sentence(on: Admin) -> None:
    assert_refused(on("database", "downgrade", "nowhere"), "nowhere")


def test_the_migrations_make_the_tables_of_the_code(run: Admin) -> None:
    assert run("database", "check").status == 0


@pytest.mark.parametrize("command", [("tenant", "list"), ("database", "upgrade")])
def test_a_database_that_is_not_there_is_said_in_a_sentence(
    run: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CHATGLM_DATABASE_URL", f"postgresql://somebody:hush@/name?host={tmp_path}")
    assert_refused(run(*command), "The database cannot be reached")


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("CHATGLM_DATABASE_URL", "mysql://u:hush@host/name", "CHATGLM_DATABASE_URL: Value error, unsupported database"),
        ("CHATGLM_DATABASE_URL", "hush", "CHATGLM_DATABASE_URL: Value error, not the URL of a database"),
        ("CHATGLM_SECRET", "hush", "CHATGLM_SECRET: Value error, must have at least 32 characters"),
        ("CHATGLM_NO_SUCH", "hush", "CHATGLM_NO_SUCH: there is no such setting"),
    ],
)
def test_bad_settings_are_said_in_one_sentence_without_their_value(
    run: Admin, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(setting, value)
    for command in (("tenant", "list"), ("database", "upgrade")):
        ended = run(*command)
        assert_refused(ended, sentence)
        assert len(ended.errors.splitlines()) == 1
