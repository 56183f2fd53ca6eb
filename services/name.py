"""Names that administrators give."""

from collections.abc import Collection
from unicodedata import category

from app.common.errors import InvalidRequest

_LONGEST = 100
_LONGEST_MODEL, _MOST_MODELS = 256, 100
# Unicode's categories of control characters and of halves of surrogate pairs.
_NO_TEXT = {"Cc", "Cs"}


def check_name(name: str) -> None:
    """Raises InvalidRequest for a name that has no room in its column, or that nobody could tell from another."""
    if len(name) > _LONGEST:
        raise InvalidRequest(f"A name has at most {_LONGEST} characters; this one has {len(name)}.", param="name")
    if name != name.strip() or not name.isprintable():
        raise InvalidRequest("A name has no spaces around it, and no characters that cannot be seen.", param="name")


def check_models(names: Collection[str] | None) -> None:
    """Raises InvalidRequest for names that no model has, for too many, and for an empty list; None stands for all."""
    if names is None:
        return
    if not 1 <= len(names) <= _MOST_MODELS:
        raise InvalidRequest(f"A key names 1 to {_MOST_MODELS} models, or may use all.", param="models")
    for name in names:
        if not 1 <= len(name) <= _LONGEST_MODEL or any(category(character) in _NO_TEXT for character in name):
            raise InvalidRequest(f"A model's name is 1 to {_LONGEST_MODEL} characters of text.", param="models")
