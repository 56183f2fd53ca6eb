"""The order in which a crowd of requests is worked on."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_AT_ONCE = 8
_LONGEST_SECONDS = 0.02


class Entrance:
    """Works on a few requests until they have begun to be answered, then on the next ones, as they came.

    Otherwise all of a crowd would be read and checked before the first of it came to the engine, which has nothing to
    do meanwhile. This is an order, not a limit: a request that has to wait for something makes room soon. For an answer
    that comes whole, `request.state.begun()` says that it has begun.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, in turn."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self._places.acquire()
        inside = True

        def begun() -> None:
            nonlocal inside
            if inside:
                inside = False
                timer.cancel()
                self._places.release()

        async def begins(message: Message) -> None:
            if inside:
                begun()
            await send(message)

        timer = asyncio.get_running_loop().call_later(_LONGEST_SECONDS, begun)
        scope.setdefault("state", {})["begun"] = begun
        try:
            await self.app(scope, receive, begins)
        finally:
            begun()
