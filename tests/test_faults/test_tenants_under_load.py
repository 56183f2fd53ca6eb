"""Tenants, keys and privileges while the service is busy: who may not, may not then either."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from database.identifier import new_id
from tests.rows import TESTER
from tests.service import Service, client, running_service
from tests.test_controller.test_routes import (
    ADMIN,
    IDS,
    OPEN,
    QUERIES,
    assert_same,
    body_of,
    routes,
    their_ids,
    with_ids,
)
from tests.test_faults.callers import make_callers
from tests.test_faults.conftest import Tell
from tests.test_faults.ledger import settled, verified
from tests.test_faults.load import Load

_REVOKED_SECONDS = 5.0
# Of the kills that are asked for: each round asks every route.
_PART = 25


@pytest.mark.faults
@pytest.mark.timeout(0)
async def test_nobody_gets_more_than_is_theirs_while_others_ask(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, chance: random.Random, tell: Tell
) -> None:
    rounds = request.config.getoption("--rounds") // _PART
    async with running_service(database_url, tmp_path) as service:
        load = Load(service.url, await make_callers(database_url) * 2, chance)
        asked, slowest = 0, 0.0
        async with load.running():
            for _ in range(rounds):
                await load.accepted(5)
                asked += await ask_for_what_is_others(service)
                asked += await ask_without_the_right(service)
                slowest = max(slowest, await revoke_a_key(service))
        await settled(database_url, 5)
        await verified(database_url)
        await check_histories(service, load)
    tell(f"{rounds} rounds, {len(load.attempts)} requests meanwhile; {asked} refused; keys within {slowest:.1f} s")
    assert rounds > 0
    assert all(attempt.status is not None for attempt in load.attempts)
    assert all(attempt.said.startswith(attempt.heard.removesuffix("\ufffd")) for attempt in load.attempts)
    assert sum(attempt.outcome == "completed" for attempt in load.attempts) >= rounds * 5


async def ask_for_what_is_others(service: Service) -> int:
    """Another tenant's id answers as one that is not there; how many routes were asked."""
    theirs = await their_ids(service)
    for method, path in with_ids():
        none = dict.fromkeys(IDS, new_id())
        foreign, other = [
            await service.ours.request(method, path.format(**ids), params=QUERIES.get(path), json=body_of(method, path))
            for ids in (theirs, none)
        ]
        assert_same(foreign, other)
        assert foreign.status_code == (403 if path.startswith(ADMIN) else 404), (method, path)
    return len(with_ids())


async def ask_without_the_right(service: Service) -> int:
    """Nobody gets in without a key, and only administrators under /admin; how many routes were asked."""
    closed = [(method, path.format(**dict.fromkeys(IDS, new_id()))) for method, path in routes() if path not in OPEN]
    for method, path in closed:
        assert (await service.nobody.request(method, path)).status_code == 401, (method, path)
        if path.startswith(ADMIN):
            assert (await service.ours.request(method, path)).status_code == 403, (method, path)
    return len(closed)


async def revoke_a_key(service: Service) -> float:
    """After how many seconds a revoked key was refused; who revoked it is in the audit log, once."""
    made = await service.keys.create(TESTER, service.our_id)
    async with client(service.url, made.secret) as holder:
        assert (await holder.get("/v1/models")).status_code == 200
        revoked = await service.admin.post(f"/admin/v1/tenants/{service.our_id}/keys/{made.row.id}/revoke")
        assert revoked.status_code == 200, revoked.text
        began = time.monotonic()
        while (refused := await holder.get("/v1/models")).status_code == 200:
            assert time.monotonic() - began < _REVOKED_SECONDS
            await asyncio.sleep(0.05)
        assert refused.status_code == 401
    listed = await service.admin.get("/admin/v1/audit", params={"tenant_id": service.our_id, "limit": 100})
    events = [event["action"] for event in listed.json()["data"] if event["target_id"] == made.row.id]
    assert events == ["key.revoke", "key.create"]
    return time.monotonic() - began


async def check_histories(service: Service, load: Load) -> None:
    """Each tenant's newest messages are all its own."""
    for caller in {one.tenant_id: one for one in load.callers}.values():
        own = {attempt.prompt for attempt in load.attempts if attempt.tenant_id == caller.tenant_id}
        async with client(service.url, caller.key) as tenant:
            listed = (await tenant.get("/chat/get/messages/", params={"limit": 100})).json()["messages"]
        assert listed
        assert {message["prompt"] for message in listed} <= own
