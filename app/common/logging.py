"""How the service logs: one line each, on standard error."""

import logging
import time

FORMAT = "%(asctime)sZ %(levelname)-7s %(name)s: %(message)s"


class _Discreet(logging.Filter):
    """Takes queries out of the access log, which may hold what was said, and drops its lines of health checks."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not isinstance(record.args, tuple) or len(record.args) < 3:
            return True
        path = str(record.args[2]).partition("?")[0]
        record.args = (*record.args[:2], path, *record.args[3:])
        return not path.endswith(("/healthz", "/readyz"))


def configure_logging(level: str) -> None:
    """Log at this level (`debug`, `info`, `warning`, `error`) and above; times in UTC."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=level.upper(), format=FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    logging.getLogger("uvicorn.access").addFilter(_Discreet())
    for chatty in ("aiosqlite", "alembic.runtime.migration", "asyncio", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
