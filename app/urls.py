"""The URLs that settings name, checked."""

import re

# As browsers send it: they compare letter by letter.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


def listed_origins(listed: str) -> str:
    """The same, if it is a list of origins as browsers write them. Raises ValueError."""
    for origin in listed.split(","):
        if origin.strip() != "*" and not _ORIGIN.fullmatch(origin.strip()):
            raise ValueError("an origin is scheme://host or scheme://host:port, in lower case and without a path")
    return listed
