"""A copy that was stopped, killed or left incomplete goes on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.common.errors import Unavailable
from database.clock import now
from tests.administration import Command, Ended
from tests.rows import a_text, a_turn, store
from tests.test_tools.test_data_migration.conftest import make_url
from tests.test_tools.test_data_migration.copies import copied, count, fill, on, store_turns, turns
from tools.data_migration.side import Side


def test_a_copy_that_is_stopped_after_any_write_is_resumed(
    run: Command, unlike_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    on(unlike_urls[0], lambda database: store_turns(database, ours, 30))
    monkeypatch.setattr("tools.data_migration.copier._LARGEST_PAGE", 16)
    write, left, stops = Side.write, 0, 0

    async def write_and_stop(self: Side, *arguments: Any) -> None:
        nonlocal left
        await write(self, *arguments)
        left -= 1
        if left == 0:
            raise Unavailable("stopped")

    monkeypatch.setattr(Side, "write", write_and_stop)
    ended = Ended(1, "", "")
    while ended.status != 0:
        stops += 1
        left = stops + 1
        ended = run("copy", "--from", unlike_urls[0], "--to", unlike_urls[1], "--json")
    assert stops > 3
    assert all(row["equal"] for row in json.loads(ended.output))
    assert turns(unlike_urls[1], ours) == turns(unlike_urls[0], ours)


def test_a_copy_that_is_killed_is_resumed(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    urls = make_url(request, tmp_path, "sqlite"), make_url(request, tmp_path, "postgresql")
    (ours,) = fill(urls[0], "ours")
    on(urls[0], lambda database: store_turns(database, ours, 2000))
    command = [sys.executable, "-m", "tools.data_migration", "copy", "--json"]
    environment = {**os.environ, "COPY_FROM": urls[0], "COPY_TO": urls[1]}
    killed = []
    for _ in range(2):
        before = asyncio.run(count(urls[1]))
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while process.poll() is None and asyncio.run(count(urls[1])) <= before:
            pass
        process.kill()
        process.communicate()
        killed.append(process.returncode)
    done = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert -signal.SIGKILL in killed
    rows = {row["table"]: row for row in json.loads(done.stdout)}
    assert all(row["equal"] for row in rows.values()), rows
    assert rows["turns"]["target_rows"] == 2002


def test_rows_that_an_earlier_copy_left_out_are_brought_in(run: Command, unlike_urls: tuple[str, str]) -> None:
    (ours,) = fill(unlike_urls[0], "ours")
    copied(run, unlike_urls, "--release")
    old = a_turn(ours, created_at=now() - timedelta(days=9000))
    on(unlike_urls[0], lambda database: store(database, ours, old, a_text(old)))
    assert all(row["equal"] for row in copied(run, unlike_urls).values())
    assert old.id in turns(unlike_urls[1], ours)
