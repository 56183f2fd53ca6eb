"""Text as callers may send it."""

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def printable(text: str) -> str:
    """The same text. Raises ValueError for one that holds control characters."""
    # PostgreSQL cannot store NUL, and UTF-8 cannot write half a surrogate pair; the others are never typed by people
    # and often an attack on a terminal or a log.
    if found := _CONTROL.search(text):
        raise ValueError(f"contains U+{ord(found.group()):04X}, which is not text")
    return text


Text = Annotated[str, AfterValidator(printable)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=256)]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
