"""A short way from a request for a turn to its route's function: the framework's took an eighth of a turn's time."""

import json
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeAlias

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.common.errors import InvalidRequest

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


def turn_handler(route: APIRoute) -> Handler:
    """What answers the requests of a route, of which the framework goes on to make the description.

    Its function may ask for a body, which is JSON, for the request, and for what depends on the request alone. It gives
    a response, or a model that is written as JSON. Raises TypeError for a function that asks for more.
    """
    wanted, body_field, function = route.dependant, route.body_field, route.dependant.call
    if function is None or body_field is None or _asks_for_more(wanted):
        raise TypeError(f"the function of {route.path} asks for what a turn's route does not give")
    providers = [(one.name or "", _of_request(one)) for one in wanted.dependencies]
    body_name, request_name = body_field.name, wanted.request_param_name

    async def handle(request: Request) -> Response:
        given: dict[str, Any] = {name: await provide(request) for name, provide in providers}
        given[body_name], errors = body_field.validate(await _json_of(request), loc=("body",))
        if errors:
            raise RequestValidationError(errors)
        if request_name is not None:
            given[request_name] = request
        answer = await function(**given)
        return answer if isinstance(answer, Response) else json_response(answer)

    return handle


def json_response(model: BaseModel, headers: dict[str, str] | None = None) -> Response:
    """A model as an answer."""
    return Response(model.model_dump_json(by_alias=True), headers=headers, media_type="application/json")


def decoded(body: bytes) -> Any:
    """What a body of JSON says, for all who read it: another reader might find another `store` in it, or none.

    Raises ValueError or RecursionError for what is not JSON.
    """
    return json.loads(body)


def _asks_for_more(wanted: Dependant) -> bool:
    parameters = (wanted.path_params, wanted.query_params, wanted.header_params, wanted.cookie_params)
    return any(parameters) or len(wanted.body_params) > 1 or wanted.response_param_name is not None


def _of_request(wanted: Dependant) -> Callable[[Request], Awaitable[Any]]:
    if wanted.call is None or wanted.dependencies or wanted.body_params or _asks_for_more(wanted):
        raise TypeError(f"{wanted.name} depends on more than the request")
    return wanted.call


async def _json_of(request: Request) -> Any:
    """Raises RequestValidationError or InvalidRequest for what is not JSON."""
    body = await request.body()
    if not body or not _is_json(request.headers.get("content-type", "")):
        raise RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "Field required"}])
    try:
        return decoded(body)
    except json.JSONDecodeError as error:
        issue = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "", "ctx": {"error": error.msg}}
        raise RequestValidationError([issue]) from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from error
    except ValueError as error:
        raise InvalidRequest("The body is not JSON.", code="invalid_json") from error


@lru_cache
def _is_json(content_type: str) -> bool:
    """Whether a body is meant to be JSON; where nothing is said it is: the original's clients say nothing."""
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    return not content_type or (kind == "application" and (subtype == "json" or subtype.endswith("+json")))
