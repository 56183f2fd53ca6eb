"""Transactions that the database took back because they and others waited for each other."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.common.errors import Deadlocked

Result = TypeVar("Result")

_TRIES = 5


async def despite_deadlocks(transaction: Callable[[], Awaitable[Result]]) -> Result:
    """Do a transaction that may be done anew, and again if it is taken back; after five times raises Deadlocked."""
    for _ in range(_TRIES - 1):
        try:
            return await transaction()
        except Deadlocked:
            # At once: what it waits for first is held by who was let go on.
            continue
    return await transaction()
