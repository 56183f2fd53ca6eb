"""The one mapping from errors to answers: JSON for HTTP, and the same body for the last event of a stream."""

import logging
import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from app.common.errors import AppError, InvalidRequest, MethodNotAllowed, NotFound, RateLimited
from schemas.error_schema import ErrorDetail, ErrorEnvelope

log = logging.getLogger(__name__)

_LONGEST_RETRY = 60
_LONGEST_PARAM = 100


def error_envelope(error: AppError) -> ErrorEnvelope:
    """The body that tells a caller of this error."""
    return ErrorEnvelope(error=ErrorDetail(message=error.message, type=error.type, param=error.param, code=error.code))


class _ErrorResponse(JSONResponse):
    """Leaves its code where the log's line and the metrics find it, which see an answer from outside."""

    def __init__(self, error: AppError, headers: dict[str, str]) -> None:
        super().__init__(error_envelope(error).model_dump(), error.status, headers)
        self._code = error.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["noted"]["code"] = self._code
        await super().__call__(scope, receive, send)


def error_response(error: AppError) -> JSONResponse:
    """The whole answer. Retry-After never exceeds 60 s: one SDK sleeps whatever it is told, another gives up."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        seconds = min(error.retry_after, _LONGEST_RETRY)
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
        headers["Retry-After-Ms"] = str(math.ceil(seconds * 1000))
    elif error.status in {409, 429}:
        # Clients try these again by themselves, and would for nothing.
        headers["x-should-retry"] = "false"
    if isinstance(error, RateLimited):
        headers |= error.headers
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _ErrorResponse(error, headers)


def install_handlers(app: FastAPI) -> None:
    """Every error of every route, the framework's own included, leaves in OpenAI's envelope."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _nobody)
    # Not as a handler: the framework would call it outside of what gives answers their headers.
    app.add_middleware(ServerErrorMiddleware, handler=_unexpected)


async def _app_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)  # noqa: S101 - the framework calls this for no other
    if error.status >= 500:
        log.warning("%s: %s", error.code, error.message, exc_info=error.__cause__)
    response = error_response(error)
    # What a turn that was charged says of its caller's limits, though it failed. Left with the request, not with the
    # error: several turns may fail of one, and they may be several tenants'.
    response.headers.update(getattr(request.state, "limit_headers", {}))
    return response


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the framework calls this for no other
    # The input itself is not repeated: it may be huge, a secret, or, as NaN is, impossible to write as JSON.
    issue = error.errors()[0]
    if issue["type"] == "json_invalid":
        return error_response(InvalidRequest(f"The body is not JSON: {issue['ctx']['error']}.", code="invalid_json"))
    if issue["loc"] == ("body",) and issue["type"].startswith(("model", "missing")):
        wanted = "The body must be a JSON object, with a Content-Type of application/json or none."
        return error_response(InvalidRequest(wanted, code="invalid_json"))
    # A field's name is the caller's: it may be long, or not even text that UTF-8 can write.
    path = ".".join(str(part) for part in issue["loc"][1:])[:_LONGEST_PARAM]
    param = path.encode("utf-8", "backslashreplace").decode() or None
    reason = str(issue["msg"]).removeprefix("Value error, ")
    message = f"{param}: {reason}" if param else reason
    return error_response(InvalidRequest(message, param=param, code="invalid_value"))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - the framework calls this for no other
    match error.status_code:
        case 404:
            known: AppError = NotFound("There is no such route.")
        case 405:
            known = MethodNotAllowed("This route does not know the method.")
        case 400 if isinstance(error.__cause__, RecursionError):
            known = InvalidRequest("The body is nested too deeply.", code="invalid_json")
        case 400 if isinstance(error.__cause__, ValueError):
            known = InvalidRequest("The body is not JSON.", code="invalid_json")
        case _:
            known = InvalidRequest(str(error.detail))
    response = error_response(known)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    if error.status_code == 405:
        response.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    """Those that the path knows: the framework names those of one of its routes alone."""
    scope, routes = dict(request.scope), request.app.routes
    return {
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(route.matches(scope | {"method": method})[0] == Match.FULL for route in routes)
    }


async def _nobody(_request: Request, _error: Exception) -> Response:
    # A client that left is no error; nginx's number for it tells the log so.
    return Response(status_code=499)


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return error_response(AppError("The service failed on this request."))
