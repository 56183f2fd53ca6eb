"""SQLite's write-ahead log, which repeats what was deleted from the file until it is emptied."""

import asyncio
import logging
import sqlite3
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.common.errors import Unavailable
from database.outage import told

log = logging.getLogger(__name__)


class SqliteLog:
    """The log of one file. Who asks while it is being emptied shares the next time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._asked = 0
        self._done = 0

    async def empty(self) -> None:
        """Bring it into the file and cut it off, unless somebody is in the way: then it stays, and that is logged."""
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._done >= mine:
                return
            self._done = self._asked
            try:
                emptied = await self._checkpoint()
            except Exception as error:
                if not isinstance(told(error), Unavailable):
                    raise
                emptied = False
        if not emptied:
            log.warning("SQLite's log still has what was deleted; it is emptied after the next erasure or purge")

    async def _checkpoint(self) -> bool:
        async with self._engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            emptied: bool = await driver.run(_truncate)
            return emptied


def _truncate(connection: sqlite3.Connection) -> bool:
    (timeout,) = connection.execute("PRAGMA busy_timeout").fetchone()
    # A reader or writer of another process may be in the way for as long as it likes, a back-up for instance, and all
    # turns would wait for it with this connection.
    connection.execute("PRAGMA busy_timeout=0")
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout={timeout}")
    return not busy
