"""An id for every request, which the caller is told, and which the logs keep; and how long its answer took."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from app.controller.http_metrics import HttpMetrics
from database.identifier import new_id

HEADER = "x-request-id"
DURATION = "openai-processing-ms"
_ID, _DURATION = HEADER.encode(), DURATION.encode()
# Asked every few seconds, by machines.
_UNLOGGED = ("/healthz", "/readyz", "/metrics")

log = logging.getLogger("app.access")


class RequestId:
    """Gives each request an id: `request.state.request_id` inside, a header of the answer outside, a field in the log.

    Another header says after how many milliseconds the answer began. When it has ended, the log gets a line: without
    the query, which may hold what was said, or a token; with what is put into `request.state.noted`.
    """

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with an id."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, began, status = new_id(), time.monotonic(), 0
        noted: dict[str, object] = {}
        scope.setdefault("state", {}).update({"request_id": request_id, "noted": noted})
        # A request that came on the heels of another is handled in that one's context.
        clear_contextvars()
        bind_contextvars(request_id=request_id)

        async def with_header(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                duration = str(int((time.monotonic() - began) * 1000))
                message["headers"] = [*message["headers"], (_ID, request_id.encode()), (_DURATION, duration.encode())]
            await send(message)

        try:
            await self.app(scope, receive, with_header)
        finally:
            self._metrics.answered(scope, status, noted)
            if status == 401 or not scope["path"].endswith(_UNLOGGED):
                log.info("request", extra=_told(scope, status, time.monotonic() - began) | noted)


def _told(scope: Scope, status: int, seconds: float) -> dict[str, object]:
    client = scope.get("client")
    return {
        "client": client[0] if client else None,
        "method": scope["method"],
        # As it was sent: decoded, it may hold what a terminal takes for a command.
        "path": scope["raw_path"].decode("ascii", "backslashreplace"),
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
    }
