"""The network between clients and the service, and between the service and PostgreSQL, at its worst."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.postgres_proxy import Mode, PostgresProxy, proxied
from tests.test_faults.callers import make_callers
from tests.test_faults.client_proxy import ClientProxy, Network
from tests.test_faults.conftest import KillableDatabase, Tell
from tests.test_faults.killable_service import started
from tests.test_faults.load import Load
from tests.test_faults.rounds import SETTLED_AFTER_A_CUT, conclude, survive

# Of the kills that are asked for: a cut of the network needs no restart, but most of them teach the same.
_PART = 10
_LONGEST_FAULT = 3.0


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("killable_database", ["sqlite"], indirect=True)
async def test_nothing_is_lost_between_clients_and_the_service(
    request: pytest.FixtureRequest,
    killable_database: KillableDatabase,
    tmp_path: Path,
    chance: random.Random,
    tell: Tell,
) -> None:
    rounds = request.config.getoption("--rounds") // _PART
    async with started(killable_database.url, None, tmp_path) as service:
        proxy = ClientProxy(service.url)
        async with proxy.listening() as url:
            load = Load(url, await make_callers(killable_database.url) * 2, chance)
            for number in range(rounds):
                network = [*Network][number % len(Network)]
                fault = partial(disturb_clients, proxy, network, chance.uniform(0, _LONGEST_FAULT))
                told = await survive(killable_database.url, load, fault, chance, settles=SETTLED_AFTER_A_CUT)
                tell(f"round {number + 1}, the network to clients {network}: {told}")
        await conclude(killable_database.url, load, rounds, tell)


async def disturb_clients(proxy: ClientProxy, network: Network, seconds: float) -> None:
    """Nothing gets through for a while; at the end all are cut off, unless it was only held back."""
    proxy.turn(network)
    await asyncio.sleep(seconds)
    if network != Network.HOLDS:
        assert proxy.cut() > 0
    proxy.turn(Network.WELL)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("killable_database", ["postgresql"], indirect=True)
async def test_nothing_is_lost_between_the_service_and_postgres(
    request: pytest.FixtureRequest,
    killable_database: KillableDatabase,
    tmp_path: Path,
    chance: random.Random,
    tell: Tell,
) -> None:
    assert killable_database.server is not None
    modes: Sequence[Mode] = ("pass", "refuse", "swallow", "hold")
    rounds = request.config.getoption("--rounds") // _PART
    proxy = PostgresProxy(str(killable_database.server.directory))
    async with proxy.listening() as port:
        url = proxied(killable_database.url, port)
        async with started(url, None, tmp_path) as service:
            load = Load(service.url, await make_callers(killable_database.url) * 2, chance)
            for number in range(rounds):
                mode = modes[number % len(modes)]
                messages = chance.randrange(20)
                fault = partial(disturb_postgres, proxy, mode, messages, chance.uniform(0, _LONGEST_FAULT))
                told = await survive(killable_database.url, load, fault, chance, settles=SETTLED_AFTER_A_CUT)
                tell(f"round {number + 1}, the network to PostgreSQL: {mode}, {told}")
            await conclude(killable_database.url, load, rounds, tell)


async def disturb_postgres(proxy: PostgresProxy, mode: Mode, messages: int, seconds: float) -> None:
    """For a while nothing gets through, or, while it does, a connection is cut after so many messages."""
    if mode == "pass":
        proxy.cut_after(messages)
    proxy.turn(mode)
    await asyncio.sleep(seconds)
    if mode != "hold":
        proxy.cut()
    proxy.turn("pass")
