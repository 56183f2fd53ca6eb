"""An id for every request, which the caller is told, and which the audit log keeps; and how long its answer took."""

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from database.identifier import new_id

HEADER = "x-request-id"
DURATION = "openai-processing-ms"
# Where a request's state keeps the server's own `send`. An answer that has begun may go on by it: what is in between
# only looks at how it begins, and would cost each token almost as much as the server does.
PLAIN_SEND = "plain_send"


class RequestId:
    """Gives each request an id: `request.state.request_id` inside, a header of the answer outside.

    Another header says after how many milliseconds the answer began.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with an id."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, began = new_id(), time.monotonic()
        scope.setdefault("state", {}).update({"request_id": request_id, PLAIN_SEND: send})

        async def with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                headers[DURATION] = str(int((time.monotonic() - began) * 1000))
            await send(message)

        await self.app(scope, receive, with_header)
