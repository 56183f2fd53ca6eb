"""The URL under which one turn can be listened to without a key."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from app.controller.provided import Everything
from database.clock import now
from services.principal import Principal


async def _stream_url(request: Request, provided: Everything) -> Callable[[Principal, str], str]:
    def url(caller: Principal, turn_id: str) -> str:
        token = provided.stream_access.token(caller, turn_id, now() + provided.stream_url_lifetime)
        return f"{request.scope.get('root_path', '')}/chat/stream/{turn_id}?token={token}"

    return url


# Makes the URL of a turn of this caller's, by its id: relative to the host, a proxy's prefix included.
StreamUrl = Annotated[Callable[[Principal, str], str], Depends(_stream_url)]
