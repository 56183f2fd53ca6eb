"""The minutes, days and months (UTC) in which requests and tokens are counted."""

from datetime import datetime, timedelta

from database.clock import EPOCH

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)


def windows(at: datetime) -> dict[str, int]:
    """The numbers of the minute, day and month of an aware time, as parameters of the statements."""
    past = at - EPOCH
    return {"limit_minute": past // _MINUTE, "limit_day": past // _DAY, "limit_month": at.year * 12 + at.month - 1}


def minute_began(number: int) -> datetime:
    """When the minute of that number began."""
    return EPOCH + number * _MINUTE


def minute_left(at: datetime) -> float:
    """Seconds until the next minute."""
    return (minute_began(windows(at)["limit_minute"] + 1) - at).total_seconds()


def day_left(at: datetime) -> float:
    """Seconds until the next day."""
    return (EPOCH + (windows(at)["limit_day"] + 1) * _DAY - at).total_seconds()


def month_left(at: datetime) -> float:
    """Seconds until the next month."""
    days = windows(at)["limit_day"]
    # No month has more days; the first of the next is on one of them.
    later = (EPOCH + (days + ahead) * _DAY for ahead in range(1, 32))
    return next((day - at).total_seconds() for day in later if day.day == 1)
