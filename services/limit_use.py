"""What is used of limits."""

from dataclasses import dataclass
from datetime import datetime

from database.models import Limit
from database.repositories.limit_statements import FARTHEST_MINUTES
from services.limit_window import windows


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """How much is used; turns that run count with all that they may become.

    Attributes:
        requests_used_this_minute, tokens_used_this_minute, tokens_used_this_day, tokens_used_this_month: in windows of
            UTC's calendar.
        running: turns that have begun and not ended.
    """

    requests_used_this_minute: int
    tokens_used_this_minute: int
    tokens_used_this_day: int
    tokens_used_this_month: int
    running: int


def limit_use(row: Limit, at: datetime) -> LimitUse:
    """What a turn that began at this time (aware) would find: nothing in a window that is over."""
    current = windows(at)
    is_wrong = row.minute - FARTHEST_MINUTES > current["limit_minute"]

    def used(window: str, counted: int) -> int:
        ahead = getattr(row, window) - current[f"limit_{window}"]
        return counted if ahead == 0 or (ahead > 0 and not is_wrong) else 0

    return LimitUse(
        requests_used_this_minute=used("minute", row.minute_requests),
        tokens_used_this_minute=used("minute", row.minute_tokens),
        tokens_used_this_day=used("day", row.day_tokens),
        tokens_used_this_month=used("month", row.month_tokens),
        running=row.running,
    )
