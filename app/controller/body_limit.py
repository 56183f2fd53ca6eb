"""A bound on request bodies, before anything reads them."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.common.errors import BodyTooLarge
from app.common.handlers import error_response


class BodyLimit:
    """Answers 413, in the envelope, to a body of more than `most` bytes, announced or not."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is small enough."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = error_response(BodyTooLarge(f"The body is larger than {self.most} bytes."))
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.most:
            await refusal(scope, receive, send)
            return
        received, too_large = 0, False

        async def counted() -> Message:
            nonlocal received, too_large
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most:
                too_large = True
                raise BodyTooLarge("The body is too large.")
            return message

        async def unless_too_large(message: Message) -> None:
            # The framework turns whatever reading a body raises into an error of its own.
            if not too_large:
                await send(message)

        await self.app(scope, counted, unless_too_large)
        if too_large:
            await refusal(scope, receive, send)
