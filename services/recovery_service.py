"""Signs of life for the turns that run here, and an end for those whose process died."""

import asyncio
import logging
from datetime import timedelta

from app.common.errors import Unavailable
from database.clock import now
from database.clock_skew import LONGEST_SKEW, clock_skew
from database.repositories.lease_repository import LeaseRepository
from database.session import Database
from services.settlement_service import SettlementService
from services.turn_log import TurnLog
from services.turn_runner import TurnRunner

log = logging.getLogger(__name__)


# Rounds in the length of a lease.
_ROUNDS = 3


class RecoveryService:
    """Renews leases, and settles abandoned turns as interrupted; any number of replicas may do so at once.

    Attributes:
        recovered: turns settled so far.
    """

    def __init__(
        self,
        database: Database,
        turn_log: TurnLog,
        runner: TurnRunner,
        settlements: SettlementService,
        *,
        lease: timedelta,
    ) -> None:
        self._database = database
        self._log = turn_log
        self._runner = runner
        self._settlements = settlements
        self._interval = lease.total_seconds() / _ROUNDS
        self.recovered = 0

    async def run(self) -> None:
        """Renew, and recover what others abandoned, three times in the length of a lease, until cancelled.

        While the database is away nobody can renew, and every lease expires. So nobody is taken for dead before the
        database has been there for the length of a lease, in which all that live renew theirs. Nor by a clock that is
        wrong: to one that is ahead, all leases have expired.
        """
        rounds = 0
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._log.renew([*self._runner.running, *self._settlements.waiting])
                rounds = rounds + 1 if await self._agrees() else 0
                if rounds > _ROUNDS:
                    await self.recover()
            except Unavailable as error:
                rounds = 0
                log.warning("leases could not be renewed: %s", error.message)
            except Exception:
                # Without this task every turn that runs would soon count as abandoned.
                log.exception("leases could not be renewed")

    async def _agrees(self) -> bool:
        """Whether this clock is the database's; while it is not, no turn begins here."""
        skew = await clock_skew(self._database)
        self._runner.clock_is_wrong = wrong = abs(skew) > LONGEST_SKEW
        if wrong:
            log.error("this machine's clock is %+.1f s off the database's: no turn begins here", skew.total_seconds())
        return not wrong

    async def recover(self, dead_owner: str | None = None) -> int:
        """Settle every turn whose lease has expired, or those of an owner known to be dead; how many there were."""
        async with self._database.begin_global() as session:
            leases = await LeaseRepository(session).abandoned(now(), dead_owner)
        interrupted = 0
        for lease in leases:
            try:
                interrupted += await self._log.interrupt(lease.tenant_id, lease.turn_id)
            except Unavailable:
                raise
            except Exception:
                # It is tried again in the next round. It must not keep those after it from their end for ever.
                log.exception("turn %s of a process that died could not be settled", lease.turn_id)
        self.recovered += interrupted
        if interrupted:
            log.warning("%d turns of a process that died are settled as interrupted", interrupted)
        return interrupted
