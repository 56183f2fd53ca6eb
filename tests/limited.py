"""Turns under limits, for tests: begun, ended each way, and what the rows say then."""

from typing import Any

import pytest

from app.common.errors import GenerationFailed, RateLimited, Unavailable
from database.models import Limit, TurnStatus
from database.session import Database
from services.limit_service import Limits, LimitService
from services.live_turn import LiveTurn
from services.principal import Principal
from services.settlement import settlement
from services.tenant_service import TenantService
from services.turn_end import Usage
from services.turn_log import TurnLog
from tests.rows import TESTER
from tests.turns import a_live_turn, an_end, an_opening

# What `begin` charges: 5 tokens of prompt and at most 10 new ones; `end` says that it took 7 of them.
RESERVED, USED = 15, 12
ENDS = [TurnStatus.COMPLETED, TurnStatus.CANCELLED, TurnStatus.FAILED, TurnStatus.INTERRUPTED]


async def limit(database: Database, limits: Limits, *, tenant_id: str | None = None, key_id: str | None = None) -> None:
    """Let these be the limits of the tenant `ours`, unless another one is named."""
    tenant_id = tenant_id or (await TenantService(database).named("ours")).id
    await LimitService(database).set(TESTER, tenant_id, limits, key_id=key_id)


async def limit_row(database: Database, principal: Principal, subject: str | None = None) -> Limit:
    """What is used; of the whole tenant unless a key is named."""
    async with database.begin(principal.tenant_id) as session:
        return await session.get_one(Limit, (principal.tenant_id, subject or principal.tenant_id))


async def begin(log: TurnLog, principal: Principal, **columns: Any) -> LiveTurn:
    """A turn that runs."""
    turn = a_live_turn(**columns)
    await log.open(turn, an_opening(principal))
    return turn


async def refusal(log: TurnLog, principal: Principal, **columns: Any) -> RateLimited:
    """What a turn hears that limits do not let begin."""
    with pytest.raises(RateLimited) as refused:
        await begin(log, principal, **columns)
    return refused.value


async def end(log: TurnLog, principal: Principal, turn: LiveTurn, status: TurnStatus, tokens: int = 7) -> None:
    """End it so; an interrupted one as recovery does, which knows nothing of its tokens."""
    if status == TurnStatus.INTERRUPTED:
        await log.interrupt(principal.tenant_id, turn.id)
        return
    error = {
        TurnStatus.FAILED: GenerationFailed("No."),
        TurnStatus.CANCELLED: Unavailable("Cancelled."),
    }.get(status)
    usage = Usage(prompt_tokens=5, cached_tokens=0, completion_tokens=tokens)
    await log.settle(settlement(turn, an_opening(principal), an_end(status, error=error, usage=usage)))
