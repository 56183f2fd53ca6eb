"""How the service logs: one line each, on standard error."""

import logging
import time

FORMAT = "%(asctime)sZ %(levelname)-7s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Log at this level (`debug`, `info`, `warning`, `error`) and above; times in UTC."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=level.upper(), format=FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    for chatty in ("aiosqlite", "alembic.runtime.migration", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
