"""HTTP/1.1, also with clients that offer another protocol besides."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFER = {b"upgrade", b"http2-settings"}


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, which would lose the body of a request that offers an upgrade.

    The JDK's client offers HTTP/2 with each request that begins a connection. A server declines by answering as if it
    had not been offered: the request is read once more, without the offer.
    """

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        self._unset_keepalive_if_required()
        while data:
            data = self._read(data)

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is read once more."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the body is whole, unless it has not begun."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _read(self, data: bytes) -> bytes:
        """Read this; what is left has to be read once more."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            # The parser takes a tunnel for an upgrade, too.
            if self.parser.get_method() != b"CONNECT":
                again = self._head() + data[offered.args[0] :]
                # A new one: this one may be at its end, if the head says that the connection is to be closed.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                return again
            self.send_400_response("This is no proxy.")
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        return b""

    def _head(self) -> bytes:
        """The head that was just read, without the offer."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _OFFER)  # noqa: PLW2901
            if name not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])
