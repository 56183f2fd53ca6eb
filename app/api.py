"""The API's process: `python -m app.api`, started by the supervisor on a socket that listens already."""

import argparse
import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvicorn

from app.common.logging import configure_logging
from app.main import cancel_turns, create_app
from app.secret import load_secret
from app.server_config import allow_connections, server_config
from app.settings import load_settings

# How long cancelled streams may take to say so.
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
    config = server_config(app, settings)
    config.timeout_graceful_shutdown = settings.shutdown_seconds + _FAREWELL_SECONDS
    server = _Server(config, lambda: cancel_turns(app), settings.shutdown_seconds)
    threading.Thread(target=_watch_lifeline, args=(server,), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=arguments.fd)])


class _Server(uvicorn.Server):
    """Cancels the turns that outlast the grace, so that their streams end with an error and not in silence."""

    def __init__(self, config: uvicorn.Config, cancel: Callable[[], Coroutine[None, None, None]], grace: float) -> None:
        super().__init__(config)
        self._cancel = cancel
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the connections to end, some of them because their turns are cancelled."""

        async def cancel_later() -> None:
            await asyncio.sleep(self._grace)
            await self._cancel()

        cancelling = asyncio.create_task(cancel_later())
        await super().shutdown(sockets)
        cancelling.cancel()


def _watch_lifeline(server: uvicorn.Server) -> None:
    # The supervisor holds the other end of standard input; a killed supervisor cannot say goodbye, but the pipe ends.
    # Read bare: a thread inside a buffered read aborts the interpreter when it ends.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.should_exit = True


if __name__ == "__main__":
    main()
