"""What the head of a request must not leave open: a proxy in front that reads it otherwise would end it elsewhere."""

from collections.abc import Sequence

from app.common.errors import InvalidRequest


def check_head(version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises InvalidRequest for a head that does not say in one way alone where its request goes and where it ends.

    The parser has refused those with several lengths, and with a length beside chunks.

    Args:
        version: of HTTP, as `1.1`.
        headers: their names in lower case.
    """
    if version not in {"1.0", "1.1"}:
        raise InvalidRequest("This service speaks HTTP/1.1.")
    coded = [value for name, value in headers if name == b"transfer-encoding"]
    if coded and (version == "1.0" or [value.lower() for value in coded] != [b"chunked"]):
        raise InvalidRequest("The only Transfer-Encoding that this service reads is chunked, with HTTP/1.1.")
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise InvalidRequest("A request names one Host.")
