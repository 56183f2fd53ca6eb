"""The URLs that settings name, checked."""

import re
from importlib.util import find_spec
from urllib.parse import urlsplit

# As browsers send it: they compare letter by letter.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


def listed_origins(listed: str) -> str:
    """The same, if it is empty or a list of origins as browsers write them. Raises ValueError."""
    for origin in listed.split(",") if listed.strip() else []:
        if origin.strip() != "*" and not _ORIGIN.fullmatch(origin.strip()):
            raise ValueError("an origin is scheme://host or scheme://host:port, in lower case and without a path")
    return listed


def collector_url(url: str) -> str:
    """The same, if traces can be sent there. Raises ValueError for what is no URL, or without the extra `otel`."""
    parsed = urlsplit(url)
    if parsed.scheme not in {"http", "https"} or not parsed.hostname:
        raise ValueError("must be http://host:port or https://host:port")
    if find_spec("opentelemetry.sdk") is None:
        raise ValueError("needs packages that are not installed: pip install '.[otel]'")
    return url
