"""A bound on request bodies, which are read before anything else is done with a request."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.common.errors import BodyTooLarge
from app.common.handlers import error_response


class BodyLimit:
    """Reads a body and passes it on in one piece; answers 413, in the envelope, to one of more than `most` bytes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is small enough."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            whole: Message | None = await self._read(scope, receive)
        except BodyTooLarge as error:
            await error_response(error)(scope, receive, send)
            return

        async def read_already() -> Message:
            nonlocal whole
            message, whole = whole, None
            return await receive() if message is None else message

        await self.app(scope, read_already, send)

    async def _read(self, scope: Scope, receive: Receive) -> Message:
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.most:
            raise BodyTooLarge(f"The body is larger than {self.most} bytes.")
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.most:
                raise BodyTooLarge(f"The body is larger than {self.most} bytes.")
        return {"type": "http.request", "body": body, "more_body": False}
