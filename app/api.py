"""The API's process: `python -m app.api`, started by the supervisor on a socket that listens already."""

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from app.common.logging import configure_logging
from app.main import create_app
from app.secret import load_secret
from app.server_config import allow_connections, server_config
from app.settings import load_settings
from services.shutdown import Shutdown

# Objects that are made before the youngest are looked through; Python's own 700 are those of a single request.
_COLLECTED_AFTER = 10_000
# How long connections may take to send what is left when all turns have ended.
_FAREWELL_SECONDS = 5


def main() -> None:
    """Serve until told to stop, or until whoever started this is gone."""
    parser = argparse.ArgumentParser(prog="python -m app.api")
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--engine-socket", type=Path, required=True)
    parser.add_argument("--instance", required=True)
    arguments = parser.parse_args()
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    app = create_app(
        settings,
        secret=load_secret(settings),
        engine_socket=arguments.engine_socket,
        instance=arguments.instance,
    )
    allow_connections(settings.max_connections)
    config = server_config(app, settings, app.state.http_metrics)
    config.timeout_graceful_shutdown = _FAREWELL_SECONDS
    server = _Server(config, lambda: app.state.shutdown)
    threading.Thread(target=_watch_lifeline, args=(server,), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=arguments.fd)])


class _Server(uvicorn.Server):
    """Answers on while it stops: turns that run may end, and callers and load balancers hear that no new one begins."""

    def __init__(self, config: uvicorn.Config, shutdown: Callable[[], Shutdown]) -> None:
        """`shutdown` is there once the application has started."""
        super().__init__(config)
        self._shutdown = shutdown

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first signal stops, the second hurries; the process ends with status 0 and not by the signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        _spare_the_collector()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let turns end, then the connections."""
        # Clients with connections of long life would else stay here, while new ones are led elsewhere.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        await self._shutdown().run()
        await super().shutdown(sockets)

    def _told_to_stop(self) -> None:
        if self.should_exit and self.started:
            self._shutdown().hurry()
        self.should_exit = True


def _spare_the_collector() -> None:
    # What is there now stays: routes, models, statements. Looked through again and again whenever a crowd comes, they
    # took a third of the API's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER, *gc.get_threshold()[1:])


def _watch_lifeline(server: uvicorn.Server) -> None:
    # The supervisor holds the other end of standard input; a killed supervisor cannot say goodbye, but the pipe ends.
    # Read bare: a thread inside a buffered read aborts the interpreter when it ends.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.should_exit = True


if __name__ == "__main__":
    main()
