"""One round of faults after the other: load, a fault in the middle of it, and the books afterwards."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.test_faults.conftest import Tell
from tests.test_faults.ledger import audited, settled
from tests.test_faults.load import Load

_MANY_TURNS, _FEW_TURNS = 12, 5
# After so many seconds nothing may run any longer. A lease, and the time between two looks for expired ones.
_LEASE_SECONDS = 30.0 + 10.0
SETTLED_AFTER_A_KILL = _LEASE_SECONDS + 5.0
# A statement that nobody answers comes first.
SETTLED_AFTER_A_CUT = _LEASE_SECONDS + 20.0


async def survive(
    url: str, load: Load, fault: Callable[[], Awaitable[None]], chance: random.Random, *, settles: float
) -> str:
    """A fault at a random moment; what was counted. Fails unless all that clients ever saw holds.

    Args:
        url: the database's.
        load: clients, some of whose requests are under way when it happens.
        fault: breaks something, and puts it right again.
        chance: picks the moment.
        settles: after so many seconds nothing may run any longer.
    """
    begun = len(load.attempts)
    async with load.running():
        await load.accepted(_MANY_TURNS)
        await asyncio.sleep(chance.uniform(0, 0.5))
        await fault()
        await load.accepted(_FEW_TURNS)
    seconds = await settled(url, settles)
    await audited(url, load.attempts)
    return f"{_summary(load, begun)}; settled in {seconds:.1f} s"


async def conclude(url: str, load: Load, rounds: int, tell: Tell) -> None:
    """Tell what all rounds together came to. Fails if that was too little to mean anything."""
    ledger = await audited(url, load.attempts)
    outcomes = Counter(attempt.outcome for attempt in load.attempts if attempt.was_accepted)
    tell(f"{rounds} rounds: {_summary(load, 0)}; their clients saw {dict(outcomes)}")
    tell(f"{len(ledger.turns)} turns: {dict(ledger.states())}")
    assert rounds > 0
    assert outcomes["completed"] >= rounds * _FEW_TURNS
    assert len(ledger.turns) >= rounds * _MANY_TURNS


def _summary(load: Load, begun: int) -> str:
    attempts = load.attempts[begun:]
    cut = sum(attempt.was_accepted and attempt.outcome is None for attempt in attempts)
    unanswered = sum(attempt.status is None for attempt in attempts)
    codes = Counter(attempt.code for attempt in attempts if attempt.code is not None)
    return f"{len(attempts)} requests, {cut} cut off or left, {unanswered} unanswered, errors {dict(codes)}"
