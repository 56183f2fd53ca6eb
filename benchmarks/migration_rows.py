"""A SQLite database with many turns, as the service would have written them: for what has to move them."""

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from alembic import command

from database.identifier import new_id
from database.models import Base
from database.revision import alembic_config

TENANTS = 3
TURNS_A_CONVERSATION = 5
_AT_ONCE = 10_000
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_WORDS = [
    "你好",
    "世界",
    "天气",
    "怎么样",
    "请",
    "解释",
    "一下",
    "the",
    "quick",
    "brown",
    "fox",
    "🙂",
    "👩\u200d👩\u200d👧",
    "e=mc²",
    "naïve",
    "\\N",
    "\t",
]
_USAGE = """
    INSERT INTO usage (tenant_id, day, key_id, model, requests, cancelled, failed, prompt_tokens, cached_tokens,
        completion_tokens, first_token_ms, duration_ms)
    SELECT tenant_id, date(created_at), key_id, model, count(*), 0, 0, sum(prompt_tokens), 0, sum(completion_tokens),
        0, 0
    FROM turns GROUP BY 1, 2, 3, 4
"""


def make(path: Path, turns: int) -> None:
    """A new, migrated file with so many turns of three tenants, their texts, items, conversations and usage."""
    command.upgrade(alembic_config(f"sqlite:///{path}"), "head")
    connection = sqlite3.connect(path, isolation_level=None)
    # It is made again if the machine goes down.
    connection.execute("PRAGMA synchronous=OFF")
    random = Random(7)  # noqa: S311 - texts, not secrets
    owners = [_tenant(connection, f"tenant {number}") for number in range(TENANTS)]
    for first in range(0, turns, _AT_ONCE):
        rows: dict[str, list[dict[str, Any]]] = {"conversations": [], "turns": [], "turn_texts": [], "items": []}
        for number in range(first, min(first + _AT_ONCE, turns), TURNS_A_CONVERSATION):
            _converse(rows, random, owners[number // TURNS_A_CONVERSATION % TENANTS], number, turns)
        connection.execute("BEGIN")
        for table, made in rows.items():
            _insert(connection, table, made)
        connection.execute("COMMIT")
    connection.execute(_USAGE)
    connection.close()


def _tenant(connection: sqlite3.Connection, name: str) -> tuple[str, str]:
    tenant, key = new_id(_BEGIN), new_id(_BEGIN)
    _insert(connection, "tenants", [{"id": tenant, "name": name, "created_at": _time(_BEGIN)}])
    row = {"id": key, "tenant_id": tenant, "name": name, "prefix": "sk", "hash": f"{key:-<64}", "pepper_id": "none"}
    _insert(connection, "api_keys", [row | {"scopes": "[]", "created_at": _time(_BEGIN)}])
    return tenant, key


def _converse(
    rows: dict[str, list[dict[str, Any]]], random: Random, owner: tuple[str, str], first: int, turns: int
) -> None:
    at = _BEGIN + timedelta(seconds=first)
    tenant, key = owner
    count = min(TURNS_A_CONVERSATION, turns - first)
    conversation = {"id": new_id(at), "tenant_id": tenant, "user": f"user {random.randrange(1000)}"}
    rows["conversations"].append(conversation | {"length": 2 * count, "created_at": _time(at), "used_at": _time(at)})
    for number in range(count):
        at += timedelta(seconds=1, microseconds=random.randrange(1000))
        turn, prompt, response = new_id(at), _text(random), _text(random)
        mine = {"tenant_id": tenant, "conversation_id": conversation["id"]}
        rows["turns"].append(
            mine
            | {"id": turn, "key_id": key, "user": conversation["user"], "endpoint": "/chat/new/message/"}
            | {"model": "a-model", "parameters": json.dumps({"temperature": 0.7}), "status": "completed"}
            | {"finish_reason": "stop", "prompt_tokens": 40, "cached_tokens": 0, "completion_tokens": 60}
            | {"dropped_turns": 0, "created_at": _time(at), "first_token_at": _time(at), "finished_at": _time(at)}
        )
        rows["turn_texts"].append({"turn_id": turn, "tenant_id": tenant, "prompt": prompt, "response": response})
        for offset, role, text in ((0, "user", prompt), (1, "assistant", response)):
            said = {"turn_id": turn, "position": 2 * number + offset, "type": "message", "role": role, "text": text}
            rows["items"].append(mine | said | {"id": new_id(at), "created_at": _time(at)})


def _text(random: Random) -> str:
    return " ".join(random.choices(_WORDS, k=random.randrange(5, 40)))


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


def _insert(connection: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    needed = _defaults(table)
    names = list(needed | rows[0]) if rows else []
    if rows:
        sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(['?'] * len(names))})"  # noqa: S608
        connection.executemany(sql, ([(needed | row)[name] for name in names] for row in rows))


def _defaults(table: str) -> dict[str, Any]:
    """What the models put into columns that are not named."""
    columns: Iterator[Any] = iter(Base.metadata.tables[table].columns)
    return {
        column.name: column.default.arg for column in columns if column.default is not None and column.default.is_scalar
    }
