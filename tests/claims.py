"""A request under the idempotency key "a-key", which was answered, as if another instance had only begun to."""

import asyncio
from datetime import timedelta

from database.clock import now
from database.models import IdempotencyKey
from tests.service import Service

KEY = "a-key"


async def claim_elsewhere(service: Service) -> None:
    """Another instance has it from now on."""
    async with service.database.begin(service.our_id) as session:
        row = await session.get_one(IdempotencyKey, (service.our_id, KEY))
        row.status, row.body, row.turn_id, row.heard_at, row.owner = None, None, None, None, "f" * 32
        row.expires_at = now() + timedelta(minutes=1)


async def until_waited_for(service: Service) -> None:
    """Somebody waits for its answer."""
    async with asyncio.timeout(60):
        while True:
            async with service.database.begin(service.our_id) as session:
                if (await session.get_one(IdempotencyKey, (service.our_id, KEY))).heard_at is not None:
                    return


async def die_elsewhere(service: Service) -> None:
    """The other instance gives no sign of life any more."""
    async with service.database.begin(service.our_id) as session:
        row = await session.get_one(IdempotencyKey, (service.our_id, KEY))
        row.expires_at = now() - timedelta(minutes=1)
