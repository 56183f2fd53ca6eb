"""An id for every request, which the caller is told, and which the logs keep; and how long its answer took."""

import logging
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from database.identifier import new_id

HEADER = "x-request-id"
DURATION = "openai-processing-ms"
# Asked every few seconds, by machines.
_UNLOGGED = ("/healthz", "/readyz")

log = logging.getLogger("app.access")


class RequestId:
    """Gives each request an id: `request.state.request_id` inside, a header of the answer outside, a field in the log.

    Another header says after how many milliseconds the answer began. When it has ended, the log gets a line: without
    the query, which may hold what was said, or a token.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with an id."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, began, status = new_id(), time.monotonic(), 0
        scope.setdefault("state", {})["request_id"] = request_id
        # A request that came on the heels of another is handled in that one's context.
        clear_contextvars()
        bind_contextvars(request_id=request_id)

        async def with_header(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                headers[DURATION] = str(int((time.monotonic() - began) * 1000))
            await send(message)

        try:
            await self.app(scope, receive, with_header)
        finally:
            if not scope["path"].endswith(_UNLOGGED):
                log.info("request", extra=_told(scope, status, time.monotonic() - began))


def _told(scope: Scope, status: int, seconds: float) -> dict[str, object]:
    client = scope.get("client")
    return {
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
    }
