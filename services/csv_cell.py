"""What stands in a cell of CSV: nothing that a spreadsheet would run."""

from typing import Any

# What makes a spreadsheet take a cell for a formula, in half and full width.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(value: Any) -> Any:
    """The same, but text that would be a formula behind an apostrophe, which spreadsheets take for text."""
    # Spaces before a formula do not keep it from being one everywhere.
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value
