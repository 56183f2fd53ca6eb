"""Days and times as callers send them."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _written(value: Any) -> Any:
    # Numbers would be taken for seconds since 1970.
    if isinstance(value, date) or (isinstance(value, str) and _DAY.match(value)):
        return value
    raise ValueError("must be written as ISO 8601 has it")


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is too far away") from error


Day = Annotated[date, BeforeValidator(_written)]
Time = Annotated[datetime, BeforeValidator(_written)]
UtcTime = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_utc)]
