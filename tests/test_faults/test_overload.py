"""Ten times more clients than places: who is let in does not notice, who is refused hears of it at once."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from statistics import median, quantiles

import pytest
from sqlalchemy import select

from database.models import Turn
from tests.test_faults.callers import Caller, make_callers
from tests.test_faults.conftest import KillableDatabase, Tell
from tests.test_faults.crowd import PROMPT, Seen, crowd, gap, tails
from tests.test_faults.killable_service import KillableService, started
from tests.test_faults.ledger import settled
from tests.test_faults.process_memory import growth, held
from tests.test_faults.wire_client import WireClient
from tests.whole_database import unbound_connection

_RUNNING, _QUEUED = 8, 8
_CLIENTS = 10 * (_RUNNING + _QUEUED)
_UNLOADED_SECONDS, _OVERLOAD_SECONDS = 10.0, 60.0


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("killable_database", ["sqlite"], indirect=True)
async def test_an_overload_slows_nobody_who_is_let_in(
    killable_database: KillableDatabase, tmp_path: Path, tell: Tell
) -> None:
    callers = [one for one in await make_callers(killable_database.url) if one.tenant != "narrow"]
    async with started(killable_database.url, None, tmp_path, max_running=_RUNNING, max_queued=_QUEUED) as service:
        unloaded, loaded, memory = Seen(), Seen(), list[float]()
        async with crowd(service.url, callers, _RUNNING, unloaded):
            await asyncio.sleep(_UNLOADED_SECONDS)
        pids = service.service.children()
        async with crowd(service.url, callers, _CLIENTS, loaded):
            for _ in range(int(_OVERLOAD_SECONDS)):
                await asyncio.sleep(1)
                memory.append(held(pids).memory)
        began = time.monotonic()
        await answered(service, callers[0])
        recovered = time.monotonic() - began
        states = await logged(killable_database.url)
    refused = quantiles(loaded.refused, n=100)
    before, then = gap(unloaded), gap(loaded)
    tell(f"{len(loaded.gaps)} answers, {len(loaded.refused)} refusals to {_CLIENTS} clients, {_OVERLOAD_SECONDS:g} s")
    tell(f"time between tokens {before * 1000:.1f} ms, under overload {then * 1000:.1f} ms; {tails(unloaded, loaded)}")
    tell(f"refused within {median(loaded.refused) * 1000:.1f} ms, 95 % within {refused[94] * 1000:.1f} ms")
    tell(f"memory {memory[0]:.0f} MiB, then {memory[-1]:.0f} MiB ({growth(memory[10:]):+.1%})")
    tell(f"the first token {recovered:.2f} s after the end")
    assert len(loaded.gaps) > 100
    assert len(loaded.refused) > 500
    assert then < before * 1.2
    assert refused[94] < 0.05
    assert growth(memory[10:]) < 0.05
    assert recovered < 2
    # Refusals leave no row. Of what began while a client left, it knows nothing.
    assert states.keys() == {"completed", "cancelled"}
    assert 0 <= states.total() - unloaded.accepted - loaded.accepted - 1 <= _CLIENTS


async def answered(service: KillableService, caller: Caller) -> None:
    """Returns with the first token of an answer."""
    client = await WireClient.connect(service.url, caller.key)
    while (head := await client.post("/chat/new/message/", prompt=PROMPT, stream=True)).status != 200:
        await client.body(head)
    await anext(client.events())
    client.close()


async def logged(url: str) -> Counter[str]:
    """How many turns ended how, once all have."""
    await settled(url, 5)
    async with unbound_connection(url) as connection:
        return Counter(await connection.scalars(select(Turn.status)))
