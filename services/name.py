"""Names that administrators give."""

from app.common.errors import InvalidRequest

_LONGEST = 100


def check_name(name: str) -> None:
    """Raises InvalidRequest for a name that has no room in its column, or that nobody could tell from another."""
    if len(name) > _LONGEST:
        raise InvalidRequest(f"A name has at most {_LONGEST} characters; this one has {len(name)}.", param="name")
    if name != name.strip() or not name.isprintable():
        raise InvalidRequest("A name has no spaces around it, and no characters that cannot be seen.", param="name")
