"""The URL under which one turn can be listened to without a key."""

from fastapi import Request

from app.controller.provided import Provided
from database.clock import now
from services.principal import Principal


def stream_url(request: Request, here: Provided, caller: Principal, turn_id: str) -> str:
    """That of a turn of this caller's: relative to the host, a proxy's prefix included."""
    token = here.stream_access.token(caller, turn_id, now() + here.stream_url_lifetime)
    return f"{request.scope.get('root_path', '')}/chat/stream/{turn_id}?token={token}"
