"""This machine's clock held against the database's, which is the one that all replicas share."""

from datetime import datetime, timedelta

from sqlalchemy import func, select

from app.common.errors import ClockWrong
from database.clock import now
from database.session import Database

# Leases and windows of limits bear as much.
LONGEST_SKEW = timedelta(seconds=10)


async def clock_skew(database: Database) -> timedelta:
    """How far this clock is ahead of the database's, less the time that asking took; below zero if it is behind.

    Nothing with SQLite, whose clock is this one. Raises Unavailable.
    """
    before = now()
    async with database.begin_global() as session:
        if session.get_bind().dialect.name != "postgresql":
            return timedelta()
        theirs: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return max(before - theirs, timedelta()) + min(now() - theirs, timedelta())


async def check_clock(database: Database) -> None:
    """For what cannot be undone, and goes by the time. Raises ClockWrong for a clock that is off, or Unavailable."""
    if abs(await clock_skew(database)) > LONGEST_SKEW:
        raise ClockWrong
