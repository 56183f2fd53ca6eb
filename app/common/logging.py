"""How the service's processes log: one line each on standard error, JSON or for a person's eyes."""

import logging
import sys
from typing import TYPE_CHECKING, Literal

import structlog
from structlog.contextvars import merge_contextvars

from app.common.tracebacks import traceback_text

if TYPE_CHECKING:
    from structlog.typing import Processor

LogFormat = Literal["auto", "json", "text"]
# What others log below a warning is not ours to vouch for: the database's library, say, writes the rows it reads.
_OURS = ("app", "database", "services", "tools")


class _FirstLine(logging.Filter):
    """Keeps what follows the first line out: asyncio shows there the task that failed, with the exception's text."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = record.getMessage().partition("\n")[0], None
        return True


def configure_logging(level: str, form: LogFormat = "auto") -> None:
    """Log what is of this level (`debug`, `info`, `warning`, `error`) and above; of libraries, warnings at the least.

    Each line has its time (UTC), level, logger and event, and what is bound to the context it is written in:
    `request_id`, `tenant_id`, `turn_id`. `auto` is text on a terminal, JSON elsewhere.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(is_json=form == "json" or (form == "auto" and not sys.stderr.isatty())))
    ours = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=max(ours, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(ours)
    logging.getLogger("asyncio").addFilter(_FirstLine())
    logging.captureWarnings(capture=True)


def _formatter(*, is_json: bool) -> logging.Formatter:
    every: list[Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time" if is_json else "timestamp"),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        merge_contextvars,
        structlog.processors.ExceptionRenderer(traceback_text),
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if is_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=every, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
