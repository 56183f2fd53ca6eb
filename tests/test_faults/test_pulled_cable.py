"""A network that is gone for a while, for the kernel too: no end of a connection hears that nothing comes through."""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.postgres_proxy import PostgresProxy, proxied
from tests.test_faults.callers import make_callers
from tests.test_faults.conftest import KillableDatabase, Tell
from tests.test_faults.killable_service import started
from tests.test_faults.load import Load
from tests.test_faults.rounds import SETTLED_AFTER_A_CUT, conclude, survive

# What is not to be switched off, where this runs in a network of its own.
_OUTSIDE = "CHATGLM_TEST_NETWORK"
_NETWORK = Path("/proc/self/ns/net")
_OWN_NETWORK = ("unshare", "--net")
_PART = 25
_LONGEST_FAULT = 6.0


def _is_inside() -> bool:
    return os.environ.get(_OUTSIDE, str(_NETWORK.readlink())) != str(_NETWORK.readlink())


def _can_have_a_network() -> bool:
    if _is_inside() or not all(map(shutil.which, ("unshare", "ip"))):
        return False
    trial = subprocess.run([*_OWN_NETWORK, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return trial.returncode == 0


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.skipif(not _can_have_a_network(), reason="needs the right to make network namespaces, and `ip`")
def test_nothing_is_lost_while_there_is_no_network(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Runs the test below in a network of its own, on both databases."""
    options = ["-m", "faults", "-k", "a_pulled_cable", "-s", f"--rounds={request.config.getoption('--rounds')}"]
    report = tmp_path / "report.xml"
    command = [*_OWN_NETWORK, sys.executable, "-m", "pytest", __file__, f"--junitxml={report}", *options]
    done = subprocess.run(command, env=os.environ | {_OUTSIDE: str(_NETWORK.readlink())}, check=False)
    assert done.returncode == 0
    assert 'errors="0" failures="0" skipped="0" tests="2"' in report.read_text()


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.skipif(not _is_inside(), reason="the machine's own network is not to be switched off")
async def test_what_a_pulled_cable_interrupts_is_not_lost(
    request: pytest.FixtureRequest,
    killable_database: KillableDatabase,
    tmp_path: Path,
    chance: random.Random,
    tell: Tell,
) -> None:
    await _switch("up")
    rounds = max(2, request.config.getoption("--rounds") // _PART)
    if killable_database.server is None:
        await _pull(killable_database.url, tmp_path, rounds, chance, tell)
        return
    async with PostgresProxy(str(killable_database.server.directory)).listening() as port:
        url = proxied(killable_database.url, port)
        await _pull(url, tmp_path, rounds, chance, tell, looked_at=killable_database.url)


async def _pull(
    url: str, directory: Path, rounds: int, chance: random.Random, tell: Tell, *, looked_at: str | None = None
) -> None:
    """Between clients and service, and where it has a network, between service and database.

    Args:
        url: what the service is given.
        directory: of the service.
        rounds: how often.
        chance: how long, and what clients do.
        tell: is told.
        looked_at: what is looked at in the end; None for the same.
    """
    looked_at = looked_at or url
    async with started(url, None, directory) as service:
        load = Load(service.url, await make_callers(looked_at) * 2, chance)
        for number in range(rounds):
            seconds = chance.uniform(0, _LONGEST_FAULT)
            told = await survive(
                looked_at, load, partial(_without_network, seconds), chance, settles=SETTLED_AFTER_A_CUT
            )
            tell(f"round {number + 1}, no network for {seconds:.1f} s: {told}")
        await conclude(looked_at, load, rounds, tell)


async def _without_network(seconds: float) -> None:
    await _switch("down")
    await asyncio.sleep(seconds)
    await _switch("up")


async def _switch(state: str) -> None:
    process = await asyncio.create_subprocess_exec("ip", "link", "set", "lo", state)
    assert await process.wait() == 0
