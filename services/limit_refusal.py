"""Why turns are more than limits allow, and when they may be tried again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.common.errors import RateLimited
from database.repositories.limit_statements import METERS
from services.limit_window import day_left, minute_left, month_left

_LONGEST_WAIT = 60.0
# Turns end at any time: nobody knows better.
_WHILE_TURNS_RUN = 1.0
_QUOTAS = {"tokens_per_day": ("day", day_left), "tokens_per_month": ("month", month_left)}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for at once, and not given.

    Attributes:
        turns: how many were to begin together.
        tokens: what all of them may take.
        at: when.
        headers: what the refusal says of the limits besides.
    """

    turns: int
    tokens: int
    at: datetime
    headers: Mapping[str, str]

    def refusal(self, rows: Sequence[Mapping[str, Any]]) -> RateLimited:
        """What keeps it longest, of all that the tenant's and the key's limits say: to try before is in vain.

        `rows`: by `COLUMNS`, with what is asked for; at least one is exceeded.
        """
        refusals = [refusal for row in rows for refusal in self._of(row)]
        return max(refusals, key=lambda one: math.inf if one.retry_after is None else one.retry_after)

    def _of(self, row: Mapping[str, Any]) -> Iterator[RateLimited]:
        for limit, used in METERS.items():
            if row[limit] is None or row[used] <= row[limit]:
                continue
            if (why := self._too_much(limit, row[limit])) is not None:
                yield self._refused(why, None)
            elif limit in _QUOTAS:
                yield self._beyond_quota(limit, row)
            else:
                wait = _WHILE_TURNS_RUN if limit == "turns_at_once" else minute_left(self.at)
                yield self._refused(f"The limit is {row[limit]} {_name(limit)}.", wait)

    def _too_much(self, limit: str, most: int) -> str | None:
        """Why it is never given, however long one waits; None if it may be."""
        of_tokens = limit.startswith("tokens")
        asked = self.tokens if of_tokens else self.turns
        if asked <= most:
            return None
        if of_tokens:
            return f"This request may take {asked} tokens, more than the limit of {most} {_name(limit)}."
        if asked == 1:
            return f"The limit is {most} {_name(limit)}."
        return f"This request has {asked} prompts, more than the limit of {most} {_name(limit)}."

    def _beyond_quota(self, limit: str, row: Mapping[str, Any]) -> RateLimited:
        name, ends = _QUOTAS[limit]
        left = row[limit] - (row[METERS[limit]] - self.tokens)
        if row["running"] > self.turns:
            # What they do not use of what they have reserved comes back when they end.
            what = f"{left} of the tokens of this {name} are neither used nor reserved by turns that run"
            return self._refused(f"{what}, and this request may take {self.tokens}; try again.", _WHILE_TURNS_RUN)
        why = f"The tokens of this {name} are used up."
        if left > 0:
            why = f"{left} of the tokens of this {name} are left, and this request may take {self.tokens}."
        wait = ends(self.at)
        return self._refused(why, wait if wait <= _LONGEST_WAIT else None, code="insufficient_quota")

    def _refused(self, why: str, retry_after: float | None, *, code: str | None = None) -> RateLimited:
        return RateLimited(why, code=code, retry_after=retry_after, headers=self.headers)


def _name(limit: str) -> str:
    return limit.replace("_", " ")
