"""What the routes may answer besides success, for the OpenAPI description."""

from typing import Any

from schemas.error_schema import ErrorEnvelope

_STATUSES = {
    400: "The request cannot be served as it stands.",
    401: "No valid API key.",
    403: "The API key lacks the scope, or its tenant is suspended.",
    404: "There is no such thing, or it is another tenant's.",
    408: "The request did not arrive in time.",
    409: "The state forbids it now.",
    413: "The body is too large.",
    414: "The URL is too long.",
    415: "The body is compressed.",
    429: "A limit of the key or its tenant.",
    431: "The headers are too large, or too many.",
    500: "The service or the model failed on this request.",
    503: "The service cannot answer now.",
}

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorEnvelope, "description": description} for status, description in _STATUSES.items()
}

# What success may be besides JSON. Events have no schema: some take it for that of each, others for the whole stream's.
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
TABLE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
