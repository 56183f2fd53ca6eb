"""How late the event loop comes to what is due: everything that waits for this process waits so long, too."""

import asyncio

from prometheus_client import CollectorRegistry, Histogram

_INTERVAL = 0.25
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class EventLoopLag:
    """Measured four times a second."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "chatglm:event_loop_lag_seconds", "How late the event loop is.", buckets=_BOUNDS, registry=registry
        )

    async def run(self) -> None:
        """Measure until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + _INTERVAL
            await asyncio.sleep(_INTERVAL)
            self._seconds.observe(max(0.0, clock() - due))
