"""The API's process: `python -m app.api`, started by the supervisor on a socket that listens already."""

import argparse
import socket
import sys
import threading
from pathlib import Path

import uvicorn

from app.common.logging import configure_logging
from app.main import create_app
from app.secret import load_secret
from app.settings import load_settings


def main() -> None:
    """Serve until told to stop, or until whoever started this is gone."""
    parser = argparse.ArgumentParser(prog="python -m app.api")
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--engine-socket", type=Path, required=True)
    parser.add_argument("--instance", required=True)
    arguments = parser.parse_args()
    settings = load_settings()
    configure_logging(settings.log_level)
    app = create_app(
        settings,
        secret=load_secret(settings),
        engine_socket=arguments.engine_socket,
        instance=arguments.instance,
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        root_path=settings.root_path,
        log_config=None,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_watch_lifeline, args=(server,), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=arguments.fd)])


def _watch_lifeline(server: uvicorn.Server) -> None:
    # The supervisor holds the other end of standard input; a killed supervisor cannot say goodbye, but the pipe ends.
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
