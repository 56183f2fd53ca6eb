"""What a client may ask of a connection before it has asked for anything else."""

from dataclasses import dataclass

from app.settings import Settings

_URL, _HEAD = 16 * 1024, 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionBounds:
    """Bounds on a connection and on the requests that come on it; sizes in bytes, times in seconds.

    Attributes:
        connections: of all clients together.
        url: path and query of a request.
        head: a request's headers, trailers included.
        headers: how many of them.
        waiting: requests sent before the one before them was answered.
        received: one request as it is sent, with all that frames its body.
        head_seconds: until a head is whole.
        discard_seconds: how long the rest of a request is read once it has been answered.
        unread_seconds: without a client taking anything of its answer.
    """

    connections: int
    url: int = _URL
    head: int = _HEAD
    headers: int = 128
    waiting: int = 16
    received: int
    head_seconds: float
    discard_seconds: float = 5.0
    unread_seconds: float


def connection_bounds(settings: Settings) -> ConnectionBounds:
    """Those of these settings."""
    return ConnectionBounds(
        connections=settings.max_connections,
        # A chunk of one byte is sent as six, and read as slowly: nobody sends a body so who means well.
        received=2 * settings.max_body_bytes + _URL + _HEAD,
        head_seconds=settings.head_seconds,
        unread_seconds=settings.unread_seconds,
    )
