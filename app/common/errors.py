"""What can go wrong, as the caller is told it: status, stable code and message. Imports nothing of ours."""

from collections.abc import Mapping
from typing import ClassVar


class AppError(Exception):
    """An error with an answer: `app.common.handlers` renders it for HTTP and for event streams.

    Attributes:
        status: HTTP status.
        type: OpenAI's error type, e.g. `invalid_request_error`.
        code: stable, machine-readable code, or None where OpenAI has none.
        param: the request field at fault, if one is.
        retry_after: seconds after which trying again makes sense; None where waiting does not help.
        reason: what whoever administers the service is told besides, and callers are not.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = "internal_error"
    reason: str | None = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code


class InvalidRequest(AppError):
    """400: the request cannot be served as it stands."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    """400: prompt and answer do not fit the model's context window."""

    code = "context_length_exceeded"


class Unauthenticated(AppError):
    """401: no key, or none that is valid. The same words for every cause, so that nothing can be learned from them."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(AppError):
    """403: the key is valid but may not do this."""

    status = 403
    type = "permission_error"
    code = "insufficient_scope"


class TenantSuspended(Forbidden):
    """403: the key is valid, and an administrator has suspended its tenant. Only who has such a key is told."""

    code = "tenant_suspended"

    def __init__(self) -> None:
        super().__init__("The tenant of this API key is suspended: an administrator of the service can resume it.")


class NotFound(AppError):
    """404: no such thing, or another tenant's: the two are never told apart."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(AppError):
    """405: the path exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(AppError):
    """409: the state forbids it now; trying again soon makes sense."""

    status = 409
    type = "conflict_error"
    code = "conversation_locked"


class BodyTooLarge(AppError):
    """413: the body is larger than the service reads."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UrlTooLong(AppError):
    """414: the request's path and query are longer than the service reads."""

    status = 414
    type = "invalid_request_error"
    code = "url_too_long"


class HeadersTooLarge(AppError):
    """431: the request's headers are larger, or more, than the service reads."""

    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class RequestTimeout(AppError):
    """408: the request did not arrive in time; trying again makes sense."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class UnsupportedEncoding(AppError):
    """415: the body is compressed, which the service does not read."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_encoding"


class RateLimited(AppError):
    """429: a limit of the key or its tenant. Without `retry_after`, waiting does not help, or not for long enough.

    Attributes:
        headers: what the answer says of the limits besides.
    """

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, code=code, retry_after=retry_after)
        self.headers = headers or {}


class Unavailable(AppError):
    """503: the service cannot answer now; trying again makes sense."""

    status = 503
    type = "server_error"
    code = "service_unavailable"


class DatabaseUnavailable(Unavailable):
    """503: the database is away, hangs, or has no time."""

    code = "database_unavailable"


class OutcomeUnknown(DatabaseUnavailable):
    """503: the database was lost before it said whether it did what it had been asked for."""


class Deadlocked(DatabaseUnavailable):
    """503: the database took the transaction back, since it and another one waited for each other."""


class StorageFull(DatabaseUnavailable):
    """503: the database has no room. What is stored can be read; nothing can be written."""

    code = "storage_full"


class DatabaseForbids(AppError):
    """500: the database does not let the service's role do what it has to do."""

    def __init__(self) -> None:
        super().__init__("The database does not let the service do this.")


class TurnInterrupted(Unavailable):
    """503: the turn was given up, because the process that ran it gave no sign of life."""

    code = "turn_interrupted"

    def __init__(self) -> None:
        super().__init__("The turn was interrupted before it ended.", retry_after=1)


class ClockWrong(Unavailable):
    """503: this machine's clock is not the database's, by which leases and limits are counted."""

    code = "clock_wrong"

    def __init__(self) -> None:
        super().__init__("The service's clock is wrong; try again.", retry_after=10)


class TooManyConnections(Unavailable):
    """503: as many clients are connected as the service serves."""

    code = "too_many_connections"


class ReadOnly(Unavailable):
    """503: the database is being copied. What is stored can be read; nothing can be written until it is released."""

    code = "read_only"


class GenerationFailed(AppError):
    """500: the model failed on this request alone."""

    code = "generation_failed"
