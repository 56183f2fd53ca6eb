"""How fast a database is copied: `python -m benchmarks.data_migration`.

Makes a SQLite file with the turns of three tenants, Chinese and emoji among them, starts a PostgreSQL of its own,
copies there, killed on the way, and back into another file. The exit status is 1 if two sides differed.

    python -m benchmarks.data_migration --turns 1000000 --kills 5
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command

from benchmarks.migration_rows import make
from benchmarks.own_postgres import own_postgres
from benchmarks.processes import peak_rss_mib
from database.revision import alembic_config
from tests.conftest import as_owner

_HEAD = (
    "| copy | rows | rows/s | s, copying | s, with comparing | killed | peak memory, MiB | equal | load average |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
_COPYING = re.compile(r"copying \w+: (\d+) of")
_DONE = re.compile(r"(\d+) rows in ([\d.]+) s .*?, ([\d.]+) s with comparing")


@dataclass(slots=True)
class Copy:
    """One copy, however often it was killed."""

    rows: int = 0
    seconds: float = 0
    compared: float = 0
    kills: int = 0
    memory: float = 0
    equal: bool = False

    def line(self, name: str) -> str:
        """A row of the table."""
        return (
            f"| {name} | {self.rows} | {self.rows / self.seconds:,.0f} | {self.seconds:.1f} | {self.compared:.1f} | "
            f"{self.kills} | {self.memory:.0f} | {'yes' if self.equal else 'no'} | {os.getloadavg()[0]:.1f} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy there and back; the exit status."""
    parser = argparse.ArgumentParser(description="How fast a database is copied.")
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=5, help="how often the first copy is killed")
    wanted = parser.parse_args(arguments)
    print(_HEAD)
    with tempfile.TemporaryDirectory() as directory, own_postgres() as service_url:
        source, back = Path(directory) / "source.db", Path(directory) / "back.db"
        make(source, wanted.turns)
        command.upgrade(alembic_config(f"sqlite:///{back}"), "head")
        target = as_owner(service_url)
        command.upgrade(alembic_config(target), "head")
        there = copied(f"sqlite:///{source}", target, kills=wanted.kills, every=4 * wanted.turns // (wanted.kills + 2))
        print(there.line("SQLite to PostgreSQL"), flush=True)
        home = copied(target, f"sqlite:///{back}", kills=0, every=0)
        print(home.line("PostgreSQL to SQLite"), flush=True)
    return 0 if there.equal and home.equal else 1


def copied(source: str, target: str, *, kills: int, every: int) -> Copy:
    """Copy, killed so often, each time after so many rows; then to the end."""
    copy = Copy()
    while copy.kills < kills and _run(copy, source, target, kill_after=every):
        copy.kills += 1
    if not copy.equal:
        _run(copy, source, target, kill_after=None)
    return copy


def _run(copy: Copy, source: str, target: str, *, kill_after: int | None) -> bool:
    """Run once; whether it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.data_migration", "copy", "--json"],
        env={**os.environ, "COPY_FROM": source, "COPY_TO": target},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None  # noqa: S101 - it was asked for
    began, sent = time.monotonic(), 0
    for line in process.stderr:
        copy.memory = max(copy.memory, _memory(process.pid))
        if found := _COPYING.match(line):
            sent = int(found[1])
        elif found := _DONE.match(line):
            copy.rows += int(found[1])
            copy.seconds += float(found[2])
            copy.compared += float(found[3])
        if kill_after is not None and sent >= kill_after:
            process.kill()
            process.communicate()
            copy.rows += sent
            copy.seconds += time.monotonic() - began
            copy.compared += time.monotonic() - began
            return True
    output, _ = process.communicate()
    rows: list[dict[str, Any]] = json.loads(output) if process.returncode == 0 else []
    copy.equal = bool(rows) and all(row["equal"] for row in rows)
    return False


def _memory(pid: int) -> float:
    try:
        return peak_rss_mib(pid)
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
