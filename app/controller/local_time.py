"""Times as `/chat` shows and reads them: in the service's zone."""

from datetime import UTC, datetime, tzinfo

from app.common.errors import InvalidRequest


def local_time(at: datetime, zone: tzinfo | None) -> str:
    """`YYYY-MM-DD HH:MM:SS` of an aware time; `zone` None is the machine's."""
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def aware(at: datetime | None, zone: tzinfo | None, param: str) -> datetime | None:
    """A caller's time in UTC; in the service's zone where it named none. Raises InvalidRequest, naming `param`."""
    if at is None:
        return None
    try:
        return (at.replace(tzinfo=zone) if at.tzinfo is None and zone is not None else at).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{param}: this time is too far away.", param=param, code="invalid_value") from error
