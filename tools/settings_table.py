"""`python -m tools.settings_table FILE …`: writes the table of settings into Markdown files, between two marks.

With `--check` nothing is written; the exit status is 1 if a table is not what it would be.
"""

import sys
from pathlib import Path

from pydantic_core import PydanticUndefined

from app.settings import PREFIX, Settings

_BEGIN, _END = "<!-- settings: generated -->", "<!-- settings: end -->"


def settings_table() -> str:
    """The table: a line for each setting, as `Settings` describes it."""
    lines = ["| Setting | Default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        unset = field.default in (None, PydanticUndefined)
        default = "" if unset else f"`{field.default}`" if field.default != "" else "empty"
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """A document with its table as it should be. Raises ValueError if it has no marks."""
    head, found, rest = text.partition(_BEGIN)
    _, ended, tail = rest.partition(_END)
    if not found or not ended:
        raise ValueError(f"there is no {_BEGIN} … {_END}")
    return f"{head}{_BEGIN}\n{settings_table()}\n{_END}{tail}"


def main(arguments: list[str]) -> int:
    """Write or check; the exit status."""
    stale = []
    for path in [Path(argument) for argument in arguments if argument != "--check"]:
        text = path.read_text(encoding="utf-8")
        wanted = with_table(text)
        if text == wanted:
            continue
        if "--check" in arguments:
            stale.append(str(path))
        else:
            path.write_text(wanted, encoding="utf-8")
    if stale:
        sys.stderr.write(f"The table of settings is out of date in {', '.join(stale)}: run 'make format'.\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
