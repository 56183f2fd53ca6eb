"""A running service for clients in other languages and environments. What they see depends on no kind of database."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service import Service, running_service


@pytest.fixture(scope="module")
async def service(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    directory = tmp_path_factory.mktemp("clients")
    shutil.copy(migrated_sqlite, directory / "chatglm.db")
    async with running_service(f"sqlite:///{directory / 'chatglm.db'}", directory) as service:
        yield service
