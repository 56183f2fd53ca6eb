"""A moderate load for a long time: the service holds no more at the end than at the beginning."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.test_faults.callers import make_callers
from tests.test_faults.conftest import KillableDatabase, Tell
from tests.test_faults.killable_service import started
from tests.test_faults.ledger import audited, settled
from tests.test_faults.load import Load
from tests.test_faults.process_memory import growth, held

_SAMPLES = 60
# Of the time: what is loaded when it is first needed is there then, and caches are full.
_WARM_UP = 0.2


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("killable_database", ["sqlite"], indirect=True)
async def test_memory_and_files_stay_flat(
    request: pytest.FixtureRequest,
    killable_database: KillableDatabase,
    tmp_path: Path,
    chance: random.Random,
    tell: Tell,
) -> None:
    url, seconds = killable_database.url, request.config.getoption("--soak-seconds")
    async with started(url, None, tmp_path) as service:
        load = Load(service.url, await make_callers(url), chance)
        pids = [service.service.process.pid, *service.service.children()]
        async with load.running():
            await asyncio.sleep(seconds * _WARM_UP)
            samples = []
            for _ in range(_SAMPLES):
                await asyncio.sleep(seconds * (1 - _WARM_UP) / _SAMPLES)
                samples.append(held(pids))
        assert pids[1:] == service.service.children(), "a process was started again"
        await settled(url, 5)
        ledger = await audited(url, load.attempts)
    memory, files = [one.memory for one in samples], [one.files for one in samples]
    tell(f"{len(load.attempts)} requests in {seconds:g} s; {len(ledger.turns)} turns: {dict(ledger.states())}")
    tell(f"errors {dict(Counter(attempt.code for attempt in load.attempts if attempt.code))}")
    tell(f"memory {memory[0]:.0f} MiB, then {memory[-1]:.0f} MiB ({growth(memory):+.1%})")
    tell(f"files {files[0]}, then {files[-1]} ({growth(files):+.1%})")
    assert ledger.states()["completed"] > seconds
    assert all(attempt.status is not None for attempt in load.attempts)
    assert growth(memory) < 0.05
    assert growth(files) < 0.05
