"""`kill -9` at any moment, under a load that is random: nothing that a client was told turns out to be untrue."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.test_faults.callers import make_callers
from tests.test_faults.conftest import KillableDatabase, Tell
from tests.test_faults.killable_service import ON_POSTGRES, ON_SQLITE, KillableService, Victim, started
from tests.test_faults.ledger import audited, settled
from tests.test_faults.load import Load

# A lease, and the time between two looks for expired ones: nothing that died may run any longer.
_RECOVERED_SECONDS = 30.0 + 10.0 + 5.0
_MANY_TURNS, _FEW_TURNS = 12, 5


async def survive(
    service: KillableService, url: str, victims: Sequence[Victim], chance: random.Random, tell: Tell
) -> None:
    """A round for each victim. After each, all that clients saw in any of them holds."""
    load = Load(service.url, await make_callers(url) * 2, chance)
    for number, victim in enumerate(victims, 1):
        begun = len(load.attempts)
        await service.wait_until_ready()
        async with load.running():
            await load.accepted(_MANY_TURNS)
            await asyncio.sleep(chance.uniform(0, 0.5))
            await service.survive(victim, chance)
            await load.accepted(_FEW_TURNS)
        seconds = await settled(url, _RECOVERED_SECONDS)
        await audited(url, load.attempts)
        tell(f"round {number}, {victim}: {_summary(load, begun)}; settled in {seconds:.1f} s")
    ledger = await audited(url, load.attempts)
    outcomes = Counter(attempt.outcome for attempt in load.attempts if attempt.was_accepted)
    tell(f"{len(victims)} kills: {dict(Counter(map(str, victims)))}")
    tell(f"{_summary(load, 0)}; their clients saw {dict(outcomes)}")
    tell(f"{len(ledger.turns)} turns: {dict(ledger.states())}")
    assert outcomes["completed"] >= len(victims) * _FEW_TURNS
    assert len(ledger.turns) >= len(victims) * _MANY_TURNS


def _summary(load: Load, begun: int) -> str:
    attempts = load.attempts[begun:]
    cut = sum(attempt.was_accepted and attempt.outcome is None for attempt in attempts)
    unanswered = sum(attempt.status is None for attempt in attempts)
    codes = Counter(attempt.code for attempt in attempts if attempt.code is not None)
    return f"{len(attempts)} requests, {cut} cut off or left, {unanswered} unanswered, errors {dict(codes)}"


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
        await survive(service, killable_database.url, victims, chance, tell)


async def test_nothing_is_lost_in_a_round_of_chaos(
    killable_database: KillableDatabase, tmp_path: Path, chance: random.Random, tell: Tell
) -> None:
    victims = [Victim.SERVICE] if killable_database.server is None else [Victim.MACHINE]
    async with started(killable_database.url, killable_database.server, tmp_path) as service:
        await survive(service, killable_database.url, victims, chance, tell)
