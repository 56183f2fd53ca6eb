"""Turns that begin together or not at all."""

import asyncio
from collections.abc import Sequence

from services.live_turn import LiveTurn
from services.turn_log import TurnLog
from services.turn_opening import TurnOpening


class JointOpening:
    """Writes the first rows of some turns in one transaction, once the engine has a place for each of them."""

    def __init__(self, turn_log: TurnLog, turns: Sequence[tuple[LiveTurn, TurnOpening]]) -> None:
        """`turns`: of one tenant, in no conversation."""
        self._log = turn_log
        self._turns = turns
        self._missing = len(turns)
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Where no turn has got a place, nobody waits to hear why.
        self._opened.add_done_callback(asyncio.Future.exception)

    async def arrive(self) -> None:
        """Say that one of them has its place; when this returns, the rows of all are committed.

        Raises whatever kept one of them from it.
        """
        self._missing -= 1
        if self._missing == 0 and not self._opened.done():
            try:
                await self._log.open_together(self._turns)
            except Exception as error:  # noqa: BLE001 - each of them is told
                self._opened.set_exception(error)
            else:
                self._opened.set_result(None)
        await asyncio.shield(self._opened)

    def hear(self, accepted: asyncio.Future[None]) -> None:
        """Say what became of one of them: if it got no place, none of the others begins."""
        error = accepted.exception()
        if error is not None and not self._opened.done():
            self._opened.set_exception(error)
