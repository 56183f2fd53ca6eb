"""Bounds on request bodies, which are read before anything else is done with a request."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.common.errors import AppError, BodyTooLarge, RequestTimeout, UnsupportedEncoding
from app.common.handlers import error_response


class BodyLimit:
    """Reads a body and passes it on in one piece, unless it is too large, too slow or compressed.

    Args:
        app: what the request is passed on to.
        most: bytes.
        pause: seconds without a byte.
        seconds: until it is whole.
    """

    def __init__(self, app: ASGIApp, *, most: int, pause: float, seconds: float) -> None:
        self.app = app
        self.most = most
        self.pause = pause
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is small enough."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope))
            whole: Message | None = await self._read(receive)
        except AppError as error:
            await error_response(error)(scope, receive, send)
            return

        async def read_already() -> Message:
            nonlocal whole
            message, whole = whole, None
            return await receive() if message is None else message

        await self.app(scope, read_already, send)

    def _check(self, headers: Headers) -> None:
        # Without leading zeros, of which there may be more than Python makes a number of.
        announced = headers.get("content-length", "0").lstrip("0")
        if announced.isdecimal() and (len(announced) > len(str(self.most)) or int(announced) > self.most):
            raise self._too_large()
        if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            raise UnsupportedEncoding("The body is compressed; send it as it is, without Content-Encoding.")

    async def _read(self, receive: Receive) -> Message:
        body, more = bytearray(), True
        clock = asyncio.get_running_loop().time
        end = clock() + self.seconds
        while more:
            try:
                async with asyncio.timeout_at(min(end, clock() + self.pause)):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeout("The body did not arrive in time.") from None
            if message["type"] == "http.disconnect":
                return message
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.most:
                raise self._too_large()
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is larger than {self.most} bytes.")
