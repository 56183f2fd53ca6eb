"""What stands behind the question mark: where a key is wanted, nothing of it is accepted and ignored."""

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError


def refuse_unknown_query(request: Request) -> None:
    """Raises RequestValidationError for a parameter on a route that knows none; one that knows some refuses others."""
    if not request.scope["query_string"] or _knows_some(request.scope["route"].dependant):
        return
    for name in request.query_params:
        issue = {"type": "extra_forbidden", "loc": ("query", name), "msg": "This route knows no query parameters"}
        raise RequestValidationError([issue])


def _knows_some(dependant: Dependant) -> bool:
    return bool(dependant.query_params) or any(map(_knows_some, dependant.dependencies))
