"""Cells of CSV that no spreadsheet runs."""

import pytest

from services.csv_cell import cell

_FORMULA = "=HYPERLINK(1)"


@pytest.mark.parametrize(
    "text", [_FORMULA, "+1", "-1", "@cmd", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "＋1", "－1", "＠a"]
)
def test_text_that_would_be_a_formula_is_text(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["glm-4", "a=b", "", None, -1, -0.5, True])
def test_anything_else_stays_what_it_is(value: object) -> None:
    assert cell(value) is value
