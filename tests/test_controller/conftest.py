"""A running service for the tests of the routes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service import Service, running_service


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(database_url, tmp_path) as service:
        yield service
