"""Keys that no service would accept are not made: the command has another secret than the database's keys."""

from pathlib import Path

import pytest

from tests.administration import SECRET, Admin, assert_refused, authenticated

_SERVICES = "the secret that the service has now"
_OTHER = "another secret than the service has"


@pytest.fixture
def key_id(on: Admin, monkeypatch: pytest.MonkeyPatch) -> str:
    """A key of the tenant `acme`, made with the service's secret."""
    monkeypatch.setenv("CHATGLM_SECRET", _SERVICES)
    on.json("tenant", "create", "acme")
    return str(on.json("key", "create", "acme")[0]["id"])


def test_a_key_is_neither_made_nor_rotated_with_another_secret(
    on: Admin, key_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATGLM_SECRET", _OTHER)
    for command in (("create", "acme"), ("create", "--admin"), ("rotate", key_id)):
        assert_refused(on("key", *command), "No key of this database was made with the secret")
    assert [row["id"] for row in on.json("key", "list", "acme")] == [key_id]
    # Nor was its owner.
    assert [row["name"] for row in on.json("tenant", "list")] == ["acme"]


@pytest.mark.parametrize("current", [_SERVICES, _OTHER])
def test_a_key_is_made_in_every_round_of_a_change_of_the_secret(
    on: Admin, key_id: str, monkeypatch: pytest.MonkeyPatch, current: str
) -> None:
    monkeypatch.setenv("CHATGLM_SECRET", current)
    monkeypatch.setenv("CHATGLM_OLD_SECRETS", _OTHER if current == _SERVICES else _SERVICES)
    assert on("key", "create", "acme").status == 0
    assert on("key", "rotate", key_id).status == 0


def test_keys_of_a_lost_secret_are_replaced_by_whoever_says_so(
    on: Admin, key_id: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATGLM_SECRET", SECRET)
    (made,) = on.json("key", "rotate", key_id, "--force")
    assert authenticated(database_url, made["key"]).key_id == made["id"]
    # From now on there is a key of this secret.
    assert on("key", "create", "acme").status == 0


def test_no_command_makes_a_secret_beside_the_services(
    run: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATGLM_SECRET")
    assert run("database", "upgrade").status == 0
    run.json("tenant", "create", "acme")
    run.json("key", "create", "acme")
    monkeypatch.setenv("CHATGLM_DATABASE_URL", f"sqlite:///{tmp_path}/data/chatglm.db")
    monkeypatch.setenv("CHATGLM_DATA_DIR", str(tmp_path / "mistyped"))
    assert_refused(run("key", "create", "acme"), "mistyped/secret: there is no such file.")
    assert not (tmp_path / "mistyped").exists()
