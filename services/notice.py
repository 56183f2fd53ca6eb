"""Something that is said once, to whoever waits for it and to one who does not."""

import asyncio
from collections.abc import Callable


class Notice(asyncio.Event):
    """An event that can also call somebody at once: cheaper than a task that waits for it."""

    _then: Callable[[], object] | None = None

    def set(self) -> None:
        """Say it."""
        super().set()
        if self._then is not None:
            self._then()

    def forget(self) -> None:
        """Call nobody: what was to be called would live as long as this."""
        self._then = None

    def tell(self, then: Callable[[], object]) -> None:
        """Call this, and no longer what was named before, when it is said; now if it has been."""
        self._then = then
        if self.is_set():
            then()
