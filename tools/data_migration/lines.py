"""Lines of a file, one at a time, whatever made it."""

from collections.abc import Iterator
from typing import BinaryIO

from tools.data_migration.record import Unreadable

LONGEST_LINE = 64 * 1024 * 1024
BOM = b"\xef\xbb\xbf"


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and bytes of each line, without its end or a byte order mark.

    A line longer than `LONGEST_LINE` comes cut by a byte more than that, so that it is seen to be too long.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        whole = line.endswith(b"\n")
        while len(line) > LONGEST_LINE and not whole:
            rest = file.readline(LONGEST_LINE)
            whole = not rest or rest.endswith(b"\n")
        if number == 1:
            line = line.removeprefix(BOM)
        yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def text_of(line: bytes) -> str:
    """The line as text. Raises Unreadable."""
    if len(line) > LONGEST_LINE:
        raise Unreadable(f"it is longer than {LONGEST_LINE} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 at byte {error.start}") from error
