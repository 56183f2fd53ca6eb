"""A PostgreSQL of the benchmark's own, started for it and thrown away, but durable as in production."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import ROLES, SERVICE, create_postgres, run_as_superuser
from tests.postgres import postgres_server

_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # What it plans for new tables depends on its first look at them, for which benchmarks wait.
    "autovacuum_naptime": "5s",
}


@contextmanager
def own_postgres() -> Iterator[str]:
    """The URL of a database with the service's two roles, for the one that owns nothing; not migrated."""
    with postgres_server(**_SETTINGS) as server:
        directory = str(server.directory)
        url = create_postgres(directory, "benchmark", role=SERVICE)
        asyncio.run(run_as_superuser(directory, "benchmark", ROLES.read_text(encoding="utf-8")))
        yield url
