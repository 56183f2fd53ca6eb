"""The header `Idempotency-Key`: a request that is sent again gets the answer of the first time."""

import hashlib
import re
from contextlib import aclosing, suppress
from typing import Any

import msgspec
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response
from starlette.status import HTTP_202_ACCEPTED
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.body_writer import BODY_WRITER
from app.common.errors import InvalidRequest
from app.controller.auth import chat_caller
from app.controller.provided import provided
from app.controller.sse import unless_left
from app.controller.turn_handler import decoded, turn_handler
from services.idempotency_service import KeyedRequest
from services.notice import Notice
from services.principal import Principal
from services.recording import AnswerHead, Recording

_HEADER = "idempotency-key"
_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same body gets the same answer for 24 hours.",
}
_KEY = re.compile(r"[!-~]{1,255}")
# What the API key decides: revoked, over its limit, without the scope or the model. Another one may be let in.
_OF_THE_KEY = {401, 403, 404, 429}


class IdempotentRoute(APIRoute):
    """A route whose requests may carry an idempotency key. Its handler runs apart from the callers that wait for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"openapi_extra": {"parameters": [_PARAMETER]}})
        self._handle = turn_handler(self)
        # Whose errors are answers, too, to be recorded.
        self._recorded = request_response(self._handle)
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        key = request.headers.get(_HEADER)
        response = await (self._handle(request) if key is None else self._once(request, key))
        await response(scope, receive, send)

    async def accepted(self, _request: Request, _caller: Principal, body: bytes) -> bytes:
        """The body of a 202 for one of its callers: what was recorded, with what is that caller's alone."""
        return body

    async def _once(self, request: Request, key: str) -> Response:
        if not _KEY.fullmatch(key):
            raise InvalidRequest("An Idempotency-Key is 1 to 255 visible ASCII characters.", param="Idempotency-Key")
        caller = await chat_caller(request)
        recording, head = await _begun(self._recorded, request, caller, key, self.path)
        if head.status != HTTP_202_ACCEPTED:
            return _Answer(recording, head)
        body = await unless_left(_whole(recording), request.state.left)
        response = Response(await self.accepted(request, caller, body), head.status)
        others = [(name, value) for name, value in _headers(recording, head) if name != b"content-length"]
        response.raw_headers = [*response.raw_headers, *others]
        return response


def is_shared(request: Request) -> bool:
    """Whether others may get the answer, too, now or later: then it may hold nothing that is its caller's alone."""
    return getattr(request.state, "is_shared", False)


async def _begun(
    app: ASGIApp, request: Request, caller: Principal, key: str, path: str
) -> tuple[Recording, AnswerHead]:
    """The answer to this caller's request under its key, once it has begun."""
    body = await request.body()
    said = _said(body)
    if caller.models is not None and isinstance(said, dict):
        # The answer may have been made for another key of the tenant, which may use more.
        model = said.get("model")
        (await provided(request)).chat.check_model(caller, model if isinstance(model, str) else None)
    request.state.begun()
    keyed = KeyedRequest(
        tenant_id=caller.tenant_id, key=key, key_id=caller.key_id, fingerprint=_fingerprint(path, said, body)
    )

    async def perform(recording: Recording, unheard: Notice) -> bytes:
        scope = {**request.scope, "state": {**request.scope["state"], "left": unheard, "is_shared": True}}
        recorder = _Recorder(recording, scope["state"])
        # All of the answer is recorded, not written.
        scope["state"].pop(BODY_WRITER, None)
        await app(scope, _receiver(body, unheard), recorder.send)
        return recorder.last

    idempotency, left = (await provided(request)).idempotency, request.state.left
    recording = idempotency.answer(keyed, perform)
    head = await unless_left(recording.head(), left)
    while head.status in _OF_THE_KEY and recording.key_id != caller.key_id:
        # Who came first was refused, which says nothing of this caller.
        await unless_left(recording.over(), left)
        recording = idempotency.answer(keyed, perform)
        head = await unless_left(recording.head(), left)
    if recording.key_id != caller.key_id:
        # Of the limits of another key, which this request has not touched.
        own = [header for header in head.headers if not header[0].startswith("x-ratelimit-")]
        head = AnswerHead(head.status, own)
    return recording, head


class _Recorder:
    """Takes what a handler sends; `last` is the piece that ends it."""

    def __init__(self, recording: Recording, state: dict[str, Any]) -> None:
        self._recording = recording
        self._state = state
        self._status = 0
        self.last = b""
        # Until there is an end: a handler that was told to stop gives none.
        recording.is_broken = True

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            self._status = message["status"]
            self._recording.begin(AnswerHead(message["status"], headers))
        elif message.get("more_body"):
            self._recording.add(message["body"])
        else:
            self.last = message.get("body", b"")
            self._recording.turn_id = self._state.get("turn_id")
            self._recording.turns = self._state.get("turns", 1)
            self._recording.is_broken = self._status >= 400 or "is_broken" in self._state


def _headers(recording: Recording, head: AnswerHead) -> list[tuple[bytes, bytes]]:
    replayed = [("idempotent-replayed", "true")] if recording.is_replayed else []
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*head.headers, *replayed)]


class _Answer(Response):
    """A recorded answer, to one of those who wait for it."""

    def __init__(self, recording: Recording, head: AnswerHead) -> None:
        super().__init__(status_code=head.status)
        self.raw_headers = _headers(recording, head)
        self._recording = recording

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send until the end, or until the caller leaves."""
        # What broke the answer off was told where it was made: here it stops without an end.
        with suppress(Exception):
            await unless_left(self._stream(send), scope["state"]["left"])

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._recording.body()) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _whole(recording: Recording) -> bytes:
    async with aclosing(recording.body()) as pieces:
        return b"".join([piece async for piece in pieces])


def _receiver(body: bytes, unheard: Notice) -> Receive:
    """What a handler hears of its callers: the body, and that none of them is left."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        for message in messages:
            return message
        await unheard.wait()
        return {"type": "http.disconnect"}

    return receive


def _said(body: bytes) -> object:
    """What the body says; None for one that will be refused."""
    try:
        return decoded(body)
    except (ValueError, RecursionError):
        return None


def _fingerprint(path: str, said: object, body: bytes) -> str:
    try:
        written = msgspec.json.encode(body.hex() if said is None else said, order="sorted")
    except (UnicodeEncodeError, RecursionError):
        # Half a surrogate pair, which UTF-8 cannot write: the same bytes are the same request.
        written = msgspec.json.encode(body.hex())
    return hashlib.sha256(path.rstrip("/").encode() + b"\n" + written).hexdigest()
