"""How much the tests of faults do: `make faults` and `make soak` say it, by options. And what they break."""

import asyncio
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic import command

from database.revision import alembic_config
from tests.conftest import ROLES, SERVICE, as_owner, create_postgres, run_as_superuser
from tests.postgres import PostgresServer, postgres_server

Tell = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--rounds", type=int, default=50, help="kills, half of them on each database")
    group.addoption("--soak-seconds", type=float, default=300.0, help="how long a moderate load lasts")
    group.addoption("--cases", type=int, default=20_000, help="hostile inputs, shared among the parsers")
    group.addoption("--seed", type=int, default=None, help="of all that is random; a new one by default")


@pytest.fixture
def tell() -> Tell:
    """Writes a line of what was counted: shown at once by `pytest -s`, otherwise where a test fails."""

    def tell(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    return tell


@pytest.fixture
def chance(request: pytest.FixtureRequest, tell: Tell) -> random.Random:
    """All that is random in a test; `--seed` makes it come again."""
    seed = request.config.getoption("--seed", default=None)
    seed = random.SystemRandom().randrange(10**9) if seed is None else seed
    tell(f"\n{request.node.name} --seed={seed}")
    return random.Random(seed)


@dataclass(frozen=True, slots=True)
class KillableDatabase:
    """A migrated database, and the server that can be killed, if it has one."""

    url: str
    server: PostgresServer | None


@pytest.fixture(params=["sqlite", "postgresql"])
def killable_database(
    request: pytest.FixtureRequest, migrated_sqlite: Path, tmp_path: Path
) -> Iterator[KillableDatabase]:
    """One of each kind. A server of its own keeps what it has committed when it is killed."""
    if request.param == "sqlite":
        shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
        yield KillableDatabase(f"sqlite:///{tmp_path / 'chatglm.db'}", None)
        return
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server(synchronous_commit="on"))
        directory = str(server.directory)
        url = create_postgres(directory, "killed", role=SERVICE)
        asyncio.run(run_as_superuser(directory, "killed", ROLES.read_text(encoding="utf-8")))
        command.upgrade(alembic_config(as_owner(url)), "head")
        yield KillableDatabase(url, server)
