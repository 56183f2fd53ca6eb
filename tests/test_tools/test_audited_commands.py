"""Every command that changes something leaves an event in the audit log, without anyone remembering."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from database.clock import now
from database.identifier import new_id
from database.session import Database
from services.principal import TENANT_SCOPES, Principal
from tests.administration import Admin, Command
from tests.rows import a_conversation, a_text, a_turn, an_item, store
from tests.test_tools.test_data_migration.copies import on as work_on
from tools.admin import __main__ as admin
from tools.data_migration import __main__ as data_migration

_READS = "it changes nothing"
_SCHEMA = "the schema is the migrations', which make the log as well; alembic_version says what was done"
_COPIES = "it works on two databases, and leaves its events in the source; tried in test_copy"
EXEMPT = {
    "tools.admin tenant list": _READS,
    "tools.admin key list": _READS,
    "tools.admin limit list": _READS,
    "tools.admin usage": _READS,
    "tools.admin audit": _READS,
    "tools.admin model check": _READS,
    "tools.admin database check": _READS,
    "tools.admin database upgrade": _SCHEMA,
    "tools.admin database downgrade": _SCHEMA,
    "tools.data_migration upgrade": _SCHEMA,
    "tools.data_migration downgrade": _SCHEMA,
    "tools.data_migration export": _READS,
    "tools.data_migration verify": _READS,
    "tools.data_migration copy": _COPIES,
    "tools.data_migration release": _COPIES,
}
_ERASED_CONVERSATION = ["conversation.erase", "conversation.erased"]
_IMPORTED = ["tenant.import", "tenant.imported"]
_ERASED_USER = ["user.erase", "user.erased"]
_ERASED_TENANT = ["tenant.erase", "tenant.erased"]
# Commands, what is given to them, and the events they leave; in this order: what is suspended can be resumed or erased.
CHANGES: list[tuple[str, str, list[str]]] = [
    ("tools.admin tenant create", "ours", ["tenant.create"]),
    ("tools.admin tenant rename", "ours acme", ["tenant.change"]),
    ("tools.admin tenant weight", "acme 2", ["tenant.change"]),
    ("tools.admin tenant places", "acme 9", ["tenant.change"]),
    ("tools.admin tenant policy", "acme --turn-days 1", ["tenant.change"]),
    ("tools.admin key create", "acme", ["key.create"]),
    ("tools.admin key create", "--admin", ["tenant.create", "key.create"]),
    ("tools.admin key rename", "{key} website", ["key.change"]),
    ("tools.admin key expire", "{key} --days 9", ["key.change"]),
    ("tools.admin key models", "{key} glm", ["key.change"]),
    ("tools.admin key rotate", "{key}", ["key.create", "key.rotate"]),
    ("tools.admin key revoke", "{key}", ["key.revoke"]),
    ("tools.admin limit set", "acme --turns-at-once 2", ["limit.set"]),
    ("tools.data_migration import", "openai {file} --tenant acme --at 2024-07-01", _IMPORTED),
    ("tools.admin purge", "", ["tenant.purge"]),
    ("tools.data_migration purge", "", ["tenant.purge"]),
    ("tools.admin erase conversation", "acme {conversation}", _ERASED_CONVERSATION),
    ("tools.data_migration erase conversation", "acme {conversation}", _ERASED_CONVERSATION),
    ("tools.admin erase user", "acme ann", _ERASED_USER),
    ("tools.data_migration erase user", "acme ann", _ERASED_USER),
    ("tools.admin tenant suspend", "acme", ["tenant.suspend"]),
    ("tools.admin tenant resume", "acme", ["tenant.resume"]),
    ("tools.admin tenant suspend", "acme", ["tenant.suspend"]),
    ("tools.admin tenant erase", "acme", _ERASED_TENANT),
    ("tools.admin tenant create", "other", ["tenant.create"]),
    ("tools.admin key create", "other", ["key.create"]),
    ("tools.admin tenant suspend", "other", ["tenant.suspend"]),
    ("tools.data_migration erase tenant", "other", _ERASED_TENANT),
]


def _commands(group: Any, name: str) -> Iterator[str]:
    if not hasattr(group, "commands"):
        yield name
        return
    for word, command in group.commands.items():
        yield from _commands(command, f"{name} {word}")


def test_every_command_that_changes_something_is_tried_here_or_exempt() -> None:
    found = {
        name
        for module, cli in (("tools.admin", admin.cli), ("tools.data_migration", data_migration.cli))
        for name in _commands(typer.main.get_command(cli), module)
    }
    tried = {name for name, _, _ in CHANGES}
    assert tried.isdisjoint(EXEMPT)
    assert tried | EXEMPT.keys() == found


@pytest.fixture
def data(on: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The other command line, on the same database."""
    return Command("tools.data_migration", data_migration.main, monkeypatch, capsys)


def test_every_change_is_in_the_audit_log_with_who_and_what_and_without_content(
    on: Admin, data: Command, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    chat = {"messages": [{"role": "user", "content": "secret"}, {"role": "assistant", "content": "secret"}]}
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps(chat), encoding="utf-8")
    seen = 0
    for name, given, actions in CHANGES:
        module, *words = name.split()
        what = {"file": str(file)}
        if "{" in given or "erase" in name or name.endswith("purge"):
            what |= _made(on, database_url, old=name.endswith("purge"))
        ended = (on if module == "tools.admin" else data)(*words, *given.format(**what).split())
        assert ended.status == 0, (name, ended)
        events = on.json("audit")[::-1]
        new, seen = events[seen:], len(events)
        assert [event["action"] for event in new] == actions, name
        assert {event["actor"] for event in new} == {"command_line: somebody"}
        assert all(event["tenant_id"] for event in new)
        assert new[-1]["after"], name
        if actions[-1].endswith(("erased", "purge")):
            assert all(isinstance(rows, int) and rows > 0 for rows in new[-1]["after"].values())
    assert "secret" not in on("audit", "--json").output
    assert "ann" not in {word for event in on.json("audit") for word in json.dumps(event).split('"')}


def _made(on: Admin, url: str, *, old: bool) -> dict[str, str]:
    """What the next command is about: a key, and a conversation of `ann`'s with a turn, as old as it has to be."""
    tenants = {row["name"]: row["id"] for row in on.json("tenant", "list")}
    (name,) = {"acme", "other"} & tenants.keys()
    # The newest: rotated keys are not rotated again.
    key_id = on.json("key", "list", name)[-1]["id"]
    principal = Principal(tenant_id=tenants[name], key_id=key_id, scopes=TENANT_SCOPES)
    at = now() - timedelta(days=9 if old else 0)

    async def said(database: Database) -> str:
        conversation = a_conversation(id=new_id(at), created_at=at, user="ann")
        turn = a_turn(principal, id=new_id(at), created_at=at, conversation_id=conversation.id, user="ann")
        said: list[Any] = [a_text(turn, "secret", "secret"), an_item(conversation, turn_id=turn.id)]
        await store(database, principal, conversation, turn, *said)
        return conversation.id

    return {"key": key_id, "conversation": work_on(url, said)}
