"""Times as `/chat` shows and reads them: in the service's zone."""

from datetime import datetime, tzinfo


def local_time(at: datetime, zone: tzinfo | None) -> str:
    """`YYYY-MM-DD HH:MM:SS` of an aware time; `zone` None is the machine's."""
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def aware(at: datetime | None, zone: tzinfo | None) -> datetime | None:
    """A caller's time with its offset, the service's zone where it named none."""
    if at is None or at.tzinfo is not None:
        return at
    return at.replace(tzinfo=zone) if zone is not None else at.astimezone()
