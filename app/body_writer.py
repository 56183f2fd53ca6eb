"""A short way for an answer that goes on."""

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# Where a request's state keeps its writer.
BODY_WRITER = "body_writer"


class BodyWriter:
    """Writes pieces of a body that has begun: without a message, a coroutine and middleware for each.

    What stands between route and server only looks at how an answer begins. What changes bodies, too (`until_closed`),
    must see to it that this is never ready.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        """`cycle`: the server's of this request."""
        self._cycle = cycle

    @property
    def is_ready(self) -> bool:
        """Whether a piece can be written now; if not, the server's `send` knows what to wait for."""
        cycle = self._cycle
        return bool(cycle.chunked_encoding) and not (
            cycle.flow.write_paused or cycle.disconnected or cycle.response_complete
        )

    def write(self, piece: bytes) -> None:
        """Write one, not empty: an empty one would be the end."""
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
