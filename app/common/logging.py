"""How the service logs: one line each, on standard error."""

import logging
import time

FORMAT = "%(asctime)sZ %(levelname)-7s %(name)s: %(message)s"


class _WithoutProbes(logging.Filter):
    """Drops the access log's lines of health checks, which come every few seconds and say nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        path = record.args[2] if isinstance(record.args, tuple) and len(record.args) > 2 else None
        return path not in {"/healthz", "/readyz"}


def configure_logging(level: str) -> None:
    """Log at this level (`debug`, `info`, `warning`, `error`) and above; times in UTC."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=level.upper(), format=FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    logging.getLogger("uvicorn.access").addFilter(_WithoutProbes())
    for chatty in ("aiosqlite", "alembic.runtime.migration", "asyncio", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
