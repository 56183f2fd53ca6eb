"""The HTTP server, as these settings want it."""

import resource

import uvicorn
from starlette.types import ASGIApp

from app.connection_bounds import connection_bounds
from app.controller.http_metrics import HttpMetrics
from app.http_protocol import HttpProtocol
from app.settings import Settings

# What every answer says, also one that no route gave: it is of the type it names, for the caller alone, and in no
# frame; its URL, which may have a token, is not told to other sites.
STANDING_HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cache-control", "no-store"),
]
# Files besides the clients' connections: the database's, the engine's, the log's.
_OTHER_FILES = 1024


def server_config(app: ASGIApp, settings: Settings, metrics: HttpMetrics) -> uvicorn.Config:
    """How to serve this application; `metrics` also count what does not come as far."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=HttpProtocol.within(connection_bounds(settings), metrics),
        ws="none",
        lifespan="on",
        root_path=settings.root_path,
        log_config=None,
        # RequestId's has the duration, and no queries.
        access_log=False,
        server_header=False,
        headers=STANDING_HEADERS,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]  # a part of a second is as good
    )


def allow_connections(most: int) -> None:
    """Let this process have as many connections open, as far as it may; the usual bound on files is 1,024."""
    allowed, possible = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + _OTHER_FILES
    if possible != resource.RLIM_INFINITY:
        wanted = min(wanted, possible)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, possible))
