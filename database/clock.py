"""Time as the rows hold it: aware, UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The end of the calendar, where callers put what is to be for ever.
LAST = datetime.max.replace(tzinfo=UTC)


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def later(at: datetime, by: timedelta) -> datetime:
    """The time that is so much later, or the last one that there is."""
    return at + min(by, LAST - at)
