"""`kill -9` at any moment, under a load that is random: nothing that a client was told turns out to be untrue."""

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.test_faults.callers import make_callers
from tests.test_faults.conftest import KillableDatabase, Tell
from tests.test_faults.killable_service import ON_POSTGRES, ON_SQLITE, KillableService, Victim, started
from tests.test_faults.load import Load
from tests.test_faults.rounds import SETTLED_AFTER_A_KILL, conclude, survive


async def kill(
    service: KillableService, url: str, victims: Sequence[Victim], chance: random.Random, tell: Tell
) -> None:
    """A round for each victim."""
    load = Load(service.url, await make_callers(url) * 2, chance)
    for number, victim in enumerate(victims, 1):
        await service.wait_until_ready()
        fault = partial(service.survive, victim, chance)
        tell(f"round {number}, {victim}: {await survive(url, load, fault, chance, settles=SETTLED_AFTER_A_KILL)}")
    tell(f"kills: {dict(Counter(map(str, victims)))}")
    await conclude(url, load, len(victims), tell)


def dealt(victims: Sequence[Victim], rounds: int, chance: random.Random) -> list[Victim]:
    """Each of them about as often as any other, in no order."""
    chosen = list(islice(cycle(victims), rounds))
    chance.shuffle(chosen)
    return chosen


@pytest.mark.faults
@pytest.mark.timeout(0)
async def test_nothing_is_lost_whatever_is_killed(
    request: pytest.FixtureRequest,
    killable_database: KillableDatabase,
    tmp_path: Path,
    chance: random.Random,
    tell: Tell,
) -> None:
    kinds = ON_SQLITE if killable_database.server is None else ON_POSTGRES
    victims = dealt(kinds, request.config.getoption("--rounds") // 2, chance)
    async with started(killable_database.url, killable_database.server, tmp_path) as service:
        await kill(service, killable_database.url, victims, chance, tell)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_in_a_round_of_chaos(
    killable_database: KillableDatabase, tmp_path: Path, chance: random.Random, tell: Tell
) -> None:
    victims = [Victim.SERVICE] if killable_database.server is None else [Victim.MACHINE]
    async with started(killable_database.url, killable_database.server, tmp_path) as service:
        await kill(service, killable_database.url, victims, chance, tell)
