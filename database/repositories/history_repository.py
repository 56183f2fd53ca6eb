"""Queries on the prompt/response log."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from database.identifier import first_id_at
from database.models import Turn, TurnText

# Of a turn of which only numbers are kept there is no text.
Row = tuple[Turn, TurnText | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFilter:
    """What to look for; None does not filter.

    Attributes:
        since, until: the time a turn was made, `since` included, `until` not.
        text: substring of prompt or response, without regard to case.
        after: the id of the last row seen; only older ones are returned.
    """

    conversation_id: str | None = None
    user: str | None = None
    key_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    status: str | None = None
    text: str | None = None
    after: str | None = None


class HistoryRepository:
    """The log of one tenant, newest first."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, wanted: HistoryFilter, limit: int) -> list[Row]:
        """The newest `limit` rows that match all filters but `text`."""
        statement = (
            select(Turn, TurnText)
            .outerjoin(TurnText, TurnText.turn_id == Turn.id)
            .where(Turn.id.in_(_ids(wanted).order_by(Turn.id.desc()).limit(limit)))
            .order_by(Turn.id.desc())
        )
        return [(turn, text) for turn, text in await self._session.execute(statement)]

    async def search(self, wanted: HistoryFilter, limit: int, scan: int) -> tuple[list[Row], str | None]:
        """Like `page`, with `text`: among the newest `scan` rows that match the other filters.

        Returns:
            At most `limit` rows, and the last id that was scanned if there may be more beyond it, else None.
        """
        ids = list(await self._session.scalars(_ids(wanted).order_by(Turn.id.desc()).limit(scan)))
        if not ids:
            return [], None
        text = wanted.text or ""
        statement = (
            select(Turn, TurnText)
            .join(TurnText, TurnText.turn_id == Turn.id)
            .where(Turn.id.in_(_ids(wanted).where(Turn.id >= ids[-1])))
            .where(
                or_(
                    TurnText.prompt.icontains(text, autoescape=True), TurnText.response.icontains(text, autoescape=True)
                )
            )
            .order_by(Turn.id.desc())
            .limit(limit)
        )
        rows: list[Row] = [(turn, found) for turn, found in await self._session.execute(statement)]
        return rows, ids[-1] if len(ids) == scan else None


def conditions(wanted: HistoryFilter) -> list[ColumnElement[bool]]:
    """What a turn has to meet, for all filters but `text`."""
    # Ids begin with the time they were made, so that bounds in time are bounds of one index scan.
    bounds = (
        None if wanted.since is None else Turn.id >= first_id_at(wanted.since),
        None if wanted.until is None else Turn.id < first_id_at(wanted.until),
        None if wanted.after is None else Turn.id < wanted.after,
    )
    equal = {
        Turn.conversation_id: wanted.conversation_id,
        Turn.user: wanted.user,
        Turn.key_id: wanted.key_id,
        Turn.status: wanted.status,
    }
    named = [column == value for column, value in equal.items() if value is not None]
    return [*named, *(bound for bound in bounds if bound is not None)]


def _ids(wanted: HistoryFilter) -> Select[str]:
    return select(Turn.id).where(*conditions(wanted))
