"""The condition that a row has these labels."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Boolean, String, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class labelled(FunctionElement[bool]):  # noqa: N801 - a function of SQL
    """Whether a column of labels holds all of these.

    No index serves it: under row level security PostgreSQL asks an index only for what cannot tell a row of another
    tenant by an error, which its operators on JSON do not promise. So this walks the index of the rows that are listed
    and ends with the page.
    """

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: InstrumentedAttribute[dict[str, str]], wanted: Mapping[str, str]) -> None:
        super().__init__(column, literal(json.dumps(dict(wanted), ensure_ascii=False), String))


@compiles(labelled, "postgresql")
def _on_postgresql(element: labelled, compiler: SQLCompiler, **options: Any) -> str:
    column, wanted = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST({column} AS JSONB) @> CAST({wanted} AS JSONB)"


@compiles(labelled, "sqlite")
def _on_sqlite(element: labelled, compiler: SQLCompiler, **options: Any) -> str:
    column, wanted = (compiler.process(clause, **options) for clause in element.clauses)
    same = "held.key = wanted.key AND held.value = wanted.value"
    held = f"EXISTS (SELECT 1 FROM json_each({column}) AS held WHERE {same})"  # noqa: S608 - names and parameters
    return f"NOT EXISTS (SELECT 1 FROM json_each({wanted}) AS wanted WHERE NOT {held})"  # noqa: S608
