"""A text that may come in parts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.text import printable


@dataclass(frozen=True, slots=True)
class PartedText:
    """A text; the lengths of its parts, if it came in parts."""

    text: str
    parts: tuple[int, ...] | None = None


def parted(value: Any, text_of: Callable[[Any], str]) -> PartedText:
    """A text, or a list of parts of which `text_of` gives the texts. Raises ValueError for what is not printable."""
    if isinstance(value, str):
        return PartedText(printable(value))
    parts: list[Any] = value if isinstance(value, list) else [value]
    texts = [printable(text_of(part)) for part in parts]
    return PartedText("".join(texts), tuple(map(len, texts)))
