"""Ends of transactions, which run to their end even where whoever asked for them is gone."""

import asyncio
from collections.abc import Coroutine


class Endings:
    """Whoever closes a database waits for them: what the end of a loop breaks off keeps its connection and its lock."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, ending: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Nobody has to wait for it."""
        task = asyncio.create_task(ending)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def run(self, ending: Coroutine[object, object, None]) -> None:
        """It goes on when the caller is cancelled. Raises what it raises."""
        await asyncio.shield(self.start(ending))

    async def wait(self) -> None:
        """Until none is running."""
        while self._running:
            await asyncio.wait(self._running)
