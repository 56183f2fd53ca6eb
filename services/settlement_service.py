"""Sees to it that every turn's end is written: at once, after some tries, or from a file when the database is back."""

import asyncio
import logging
from collections.abc import Collection
from random import uniform

from app.common.errors import DatabaseUnavailable, TurnInterrupted, Unavailable
from database.clock import now
from services.settlement import Settlement
from services.settlement_file import SettlementFile
from services.turn_log import TurnLog

log = logging.getLogger(__name__)

# How long a turn's end is tried before it goes to the file.
PATIENCE = 5.0
# Bytes in the file beyond which no turn begins. What runs by then still finds room.
MOST_BYTES = 64 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class SettlementService:
    """Writes the ends of this process's turns, each once.

    Attributes:
        patience: for how many seconds an end is tried before it goes to the file.
        lost: ends that could be written nowhere, or that the database refuses for good.
    """

    def __init__(self, turn_log: TurnLog, file: SettlementFile, *, patience: float = PATIENCE) -> None:
        self._log = turn_log
        self._file = file
        self.patience = patience
        self._spilled = asyncio.Event()
        self._replaying = asyncio.Lock()
        self.lost = file.damaged
        if file.waiting:
            self._spilled.set()

    @property
    def waiting(self) -> Collection[str]:
        """The turns whose ends are in the file."""
        return self._file.waiting.keys()

    @property
    def depth(self) -> int:
        """How many they are."""
        return len(self._file.waiting)

    @property
    def oldest_age(self) -> float:
        """For how many seconds the first of them has waited; 0 if there is none."""
        first = next(iter(self._file.waiting.values()), None)
        return 0.0 if first is None else (now() - first.finished_at).total_seconds()

    def check_room(self) -> None:
        """Raises DatabaseUnavailable while too much waits for another turn to begin."""
        if self._file.size >= MOST_BYTES:
            raise DatabaseUnavailable("Too many answers wait for the database; try again later.", retry_after=5)

    async def settle(self, settlement: Settlement) -> None:
        """Write how a turn ended; when this returns, it is committed.

        Raises TurnInterrupted if the turn was given up, DatabaseUnavailable if the end is in the file until the
        database is back, and whatever the database says to what it will never take.
        """
        try:
            async with asyncio.timeout(self.patience):
                await self._try(settlement)
        except TurnInterrupted:
            raise
        except (Unavailable, TimeoutError) as error:
            log.warning("turn %s could not be settled: %r", settlement.turn_id, error.__cause__ or error)
            await self._spill(settlement)
            raise DatabaseUnavailable(
                "The answer could not be stored yet; it will be in the history when the database is back.",
                retry_after=1,
            ) from error
        except Exception:
            self.lost += 1
            raise

    async def _try(self, settlement: Settlement) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._log.settle(settlement)
            except TurnInterrupted:
                raise
            except Unavailable:
                # Never all turns in the same moment.
                await asyncio.sleep(uniform(pause / 2, pause))  # noqa: S311 - nobody gains by guessing it
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _spill(self, settlement: Settlement) -> None:
        try:
            await self._file.append(settlement)
        except OSError as error:
            self.lost += 1
            log.exception("turn %s is lost: there is no room for its end on the disk either", settlement.turn_id)
            raise DatabaseUnavailable("The answer could not be stored.", retry_after=1) from error
        self._spilled.set()

    async def run(self) -> None:
        """Write what is in the file as soon as the database takes it, until cancelled."""
        while True:
            await self._spilled.wait()
            try:
                await self.replay()
            except Unavailable as error:
                log.warning("%d ends of turns wait for the database: %s", self.depth, error.message)
            except Exception:
                log.exception("%d ends of turns wait in the file", self.depth)
            await asyncio.sleep(_LONGEST_PAUSE)

    async def replay(self) -> None:
        """Write what is in the file. Raises Unavailable if the database is away, OSError if the file's disk is."""
        async with self._replaying:
            self._spilled.clear()
            try:
                while waiting := list(self._file.waiting.values()):
                    for settlement in waiting:
                        await self._replay(settlement)
            except BaseException:
                self._spilled.set()
                raise

    async def _replay(self, settlement: Settlement) -> None:
        try:
            await self._log.settle(settlement)
        except TurnInterrupted:
            # By another instance, or erased. What it said is stored with it.
            log.warning("turn %s had been given up before its end came from the file", settlement.turn_id)
        except Unavailable:
            raise
        except Exception:
            log.exception("the database refuses the end of turn %s; it is kept beside the file", settlement.turn_id)
            await self._file.set_aside(settlement)
            self.lost += 1
        await self._file.remove(settlement.turn_id)
