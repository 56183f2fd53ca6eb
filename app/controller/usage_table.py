"""Usage as CSV, and when it is wanted so."""

import csv
import io
from collections.abc import Sequence
from typing import Literal

from fastapi import Response

from schemas.usage_schema import UsageRow
from services.csv_cell import cell

_CSV = "text/csv"


def wants_table(wanted: Literal["json", "csv"] | None, accept: str | None) -> bool:
    """Whether to answer with a table: by the query, and if it does not say by the Accept header."""
    return wanted == "csv" or (wanted is None and _CSV in (accept or ""))


def table(rows: Sequence[UsageRow], row: type[UsageRow]) -> Response:
    """The rows, all of this kind, under a line of names; nothing in it is a formula."""
    text = io.StringIO()
    writer = csv.DictWriter(text, row.model_fields)
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in one.model_dump(mode="json").items()} for one in rows)
    return Response(text.getvalue(), media_type=_CSV)
