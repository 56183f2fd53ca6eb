"""Limits as a turn meets them: what it is charged, whether that fits, and what is left."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from database.repositories.limit_statements import COLUMNS
from services.limit_refusal import Asked
from services.limit_window import minute_left


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit of requests or tokens a minute: how much there is, and how much of it is left."""

    limit: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller may still do in this minute; None where nothing limits.

    Attributes:
        reset: seconds until the minute ends and all of it is there again.
    """

    requests: Meter | None
    tokens: Meter | None
    reset: float

    def headers(self) -> dict[str, str]:
        """As OpenAI's clients know them."""
        found = {}
        for name, meter in (("requests", self.requests), ("tokens", self.tokens)):
            if meter is not None:
                found[f"x-ratelimit-limit-{name}"] = str(meter.limit)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, meter.remaining))
                found[f"x-ratelimit-reset-{name}"] = f"{math.ceil(self.reset * 1000)}ms"
        return found


def allowance(charged: Sequence[Sequence[Any]], tokens: int, at: datetime, *, turns: int = 1) -> Allowance:
    """What is left once so many turns, of so many tokens together, are charged.

    Args:
        charged: rows of `CHARGEABLE`, of the tenant and of the key as far as they have limits, these turns included.
        tokens: what these turns were charged.
        at: when; of the minute of the rows.
        turns: how many begin together.

    Raises RateLimited if that is too much for one of them.
    """
    rows = [dict(zip((*COLUMNS, "ok"), row, strict=True)) for row in charged]
    if all(row["ok"] for row in rows):
        return _left(rows, at)
    # Nothing of it was charged.
    before = _left(rows, at, turns=turns, tokens=tokens)
    raise Asked(turns, tokens, at, before.headers()).refusal(rows)


def _left(rows: Sequence[Mapping[str, Any]], at: datetime, *, turns: int = 0, tokens: int = 0) -> Allowance:
    """What the rows leave, and what these turns would have taken of it."""
    return Allowance(
        _tightest(rows, "requests_per_minute", "minute_requests", turns),
        _tightest(rows, "tokens_per_minute", "minute_tokens", tokens),
        minute_left(at),
    )


def _tightest(rows: Sequence[Mapping[str, Any]], limit: str, used: str, untaken: int) -> Meter | None:
    meters = [Meter(row[limit], row[limit] - row[used] + untaken) for row in rows if row[limit] is not None]
    return min(meters, key=lambda meter: meter.remaining, default=None)
