"""Who may call: the only place that reads the Authorization header."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.base import SecurityBase
from structlog.contextvars import bind_contextvars

from app.common.errors import Forbidden, Unauthenticated
from app.controller.extra_input import refuse_extra_input
from app.controller.provided import provided
from schemas.chat_schema import StreamQuery
from schemas.text import Id
from services.audit_service import Actor
from services.principal import Principal, Scope

_bearer = HTTPBearer(auto_error=False, description="An API key.")
KEY_HEADER = APIKeyHeader(name="x-api-key", auto_error=False, description="An API key.")


class Require(SecurityBase):
    """A dependency: the caller's principal, if its key is valid and has this scope.

    It depends on nothing else, since each further dependency costs a request as much as the check of its key; for the
    same reason it looks for extra input. It describes itself as the one scheme; the description adds `KEY_HEADER`.
    """

    model, scheme_name = _bearer.model, _bearer.scheme_name

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Principal:
        """Raises Unauthenticated, Forbidden, or RequestValidationError for input that the route does not know."""
        principal = await (await provided(request)).authentication.authenticate(await _key(request))
        bind_contextvars(tenant_id=principal.tenant_id)
        if self.scope not in principal.scopes:
            raise Forbidden(f"The API key lacks the scope {self.scope.value!r}.")
        await refuse_extra_input(request)
        return principal


async def _key(request: Request) -> str | None:
    bearer = await _bearer(request)
    return bearer.credentials if bearer else await KEY_HEADER(request)


chat_caller = Require(Scope.CHAT)


class RequireToken:
    """A dependency: whoever calls has this token, which is no API key: it is wanted while no database can be asked."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def __call__(self, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        """Raises Unauthenticated."""
        given = bearer.credentials if bearer else ""
        if not hmac.compare_digest(given.encode(), self._token):
            raise Unauthenticated("The token of CHATGLM_METRICS_TOKEN is wanted.")


def actor(principal: Principal, request: Request) -> Actor:
    """How the audit log names this caller."""
    return Actor(type="api_key", id=principal.key_id, request_id=request.state.request_id)


@dataclass(frozen=True, slots=True)
class ListenerOf:
    """Who may listen to a turn of this tenant: without `reads_history` only to one in the background.

    `check` raises Unauthenticated or TenantSuspended once that is over.
    """

    tenant_id: str
    reads_history: bool
    check: Callable[[], Awaitable[object]]


async def _listener(
    message_id: Annotated[Id, Path()],
    query: Annotated[StreamQuery, Query()],
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> ListenerOf:
    """Whoever has a key for chat, or the turn's own token where no key can be sent."""
    here = await provided(request)
    token, key = query.token, bearer.credentials if bearer else await KEY_HEADER(request)
    if key is None and token is not None:
        tenant_id = await here.stream_access.tenant(token, message_id)
        bind_contextvars(tenant_id=tenant_id)
        await refuse_extra_input(request)
        return ListenerOf(tenant_id, reads_history=False, check=lambda: here.stream_access.tenant(token, message_id))
    principal = await chat_caller(request)
    reads_history = Scope.HISTORY_READ in principal.scopes
    return ListenerOf(principal.tenant_id, reads_history, lambda: here.authentication.authenticate(key))


async def _recheck(request: Request) -> Callable[[], Awaitable[object]]:
    here, key = await provided(request), await _key(request)
    return lambda: here.authentication.authenticate(key)


Listener = Annotated[ListenerOf, Depends(_listener)]
ChatCaller = Annotated[Principal, Depends(chat_caller)]
# Asks again whether the request's key is let in; raises Unauthenticated or TenantSuspended if not.
Recheck = Annotated[Callable[[], Awaitable[object]], Depends(_recheck)]
HistoryReader = Annotated[Principal, Depends(Require(Scope.HISTORY_READ))]
HistoryEraser = Annotated[Principal, Depends(Require(Scope.HISTORY_DELETE))]
AdminCaller = Annotated[Principal, Depends(Require(Scope.ADMIN))]


async def _administrator(caller: AdminCaller, request: Request) -> Actor:
    return actor(caller, request)


async def _eraser(caller: HistoryEraser, request: Request) -> Actor:
    return actor(caller, request)


Administrator = Annotated[Actor, Depends(_administrator)]
EraserActor = Annotated[Actor, Depends(_eraser)]
