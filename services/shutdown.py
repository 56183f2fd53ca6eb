"""The last phase of a process: nothing begins any more, and what runs may end."""

import asyncio
import logging

from services.turn_follower import TurnFollower
from services.turn_runner import TurnRunner

log = logging.getLogger(__name__)


class Shutdown:
    """Stops the turns of this process, and says that it does."""

    def __init__(self, runner: TurnRunner, follower: TurnFollower, *, grace: float) -> None:
        """`grace`: for how many seconds what runs may go on."""
        self._runner = runner
        self._follower = follower
        self._grace = grace
        self._hurried = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether new turns are refused."""
        return self._runner.stopping

    def hurry(self) -> None:
        """Grant no more time."""
        self._hurried.set()

    async def run(self) -> None:
        """Refuse new turns and wait for what runs; what outlasts the grace is cancelled, with its partial text stored.

        Until then turns of other processes can be heard. When this returns no turn is left, however often it is called.
        """
        self._runner.stopping = True
        if running := len(self._runner.running):
            log.info("stopping: %d turns may go on for %g s", running, self._grace)
        waiting = {asyncio.create_task(self._runner.drain()), asyncio.create_task(self._hurried.wait())}
        await asyncio.wait(waiting, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if running := len(self._runner.running):
            log.warning("stopping: %d turns are cancelled", running)
        await self._follower.close()
        await self._runner.close()
