"""What the routes may answer besides success, for the OpenAPI description."""

from typing import Any

from schemas.error_schema import ErrorEnvelope

_STATUSES = {
    400: "The request cannot be served as it stands.",
    401: "No valid API key.",
    403: "The API key lacks the scope.",
    404: "There is no such thing, or it is another tenant's.",
    408: "The request did not arrive in time.",
    409: "The state forbids it now.",
    413: "The body is too large.",
    415: "The body is compressed.",
    429: "A limit of the key or its tenant.",
    500: "The service or the model failed on this request.",
    503: "The service cannot answer now.",
}

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorEnvelope, "description": description} for status, description in _STATUSES.items()
}


def also(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Besides JSON, success may be of this type: `text/event-stream` where a route streams."""
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}
