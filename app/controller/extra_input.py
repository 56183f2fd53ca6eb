"""What a request brings that its route does not know: where a key is wanted, nothing is accepted and ignored."""

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

_SPACE = b" \t\r\n"


async def refuse_extra_input(request: Request) -> None:
    """Raises RequestValidationError for query parameters or a body on a route that knows none.

    A route that knows some parameters refuses others by itself. `{}` is no body: some programs send it always.
    """
    route = request.scope["route"]
    if request.scope["query_string"] and not _knows_some(route.dependant):
        for name in request.query_params:
            raise _extra(("query", name), "This route knows no query parameters")
    if route.body_field is None and (await request.body()).translate(None, _SPACE) not in {b"", b"{}"}:
        raise _extra(("body",), "This route knows no body: send none, or {}.")


def _extra(where: tuple[str, ...], why: str) -> RequestValidationError:
    return RequestValidationError([{"type": "extra_forbidden", "loc": where, "msg": why}])


def _knows_some(dependant: Dependant) -> bool:
    return bool(dependant.query_params) or any(map(_knows_some, dependant.dependencies))
