"""Who may call: the only place that reads the Authorization header."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.common.errors import Forbidden
from app.controller.provided import Keys
from services.principal import Principal, Scope

_bearer = HTTPBearer(auto_error=False, description="An API key.")
_header = APIKeyHeader(name="x-api-key", auto_error=False, description="An API key.")


class Require:
    """A dependency: the caller's principal, if its key is valid and has this scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(
        self,
        keys: Keys,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        header: Annotated[str | None, Depends(_header)],
    ) -> Principal:
        """Raises Unauthenticated or Forbidden."""
        principal = await keys.authenticate(bearer.credentials if bearer else header)
        if self.scope not in principal.scopes:
            raise Forbidden(f"The API key lacks the scope {self.scope.value!r}.")
        return principal


ChatCaller = Annotated[Principal, Depends(Require(Scope.CHAT))]
HistoryReader = Annotated[Principal, Depends(Require(Scope.HISTORY_READ))]
HistoryEraser = Annotated[Principal, Depends(Require(Scope.HISTORY_DELETE))]
