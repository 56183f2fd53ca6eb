"""The elements of a JSON array of any length, one at a time."""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson
import msgspec

from tools.data_migration.lines import BOM
from tools.data_migration.record import Rejected

_SPACE = b" \t\r\n"


def elements(file: BinaryIO) -> Iterator[tuple[int, Any] | Rejected]:
    """Number, from 1, and value of each; and, last, what is wrong with a file that does not end as it should."""
    number = 0
    try:
        for value in ijson.items(file, "item", use_float=True):
            number += 1
            yield number, value
    except (ijson.JSONError, UnicodeDecodeError, RecursionError) as error:
        # Nothing behind this can be read.
        yield Rejected(number + 1, f"the file is not JSON from this record on: {error}", b"")


def without_mark(file: BinaryIO) -> tuple[BinaryIO, bool]:
    """The file behind its byte order mark, and whether it is an array."""
    buffered = io.BufferedReader(file) if isinstance(file, io.RawIOBase) else file
    if buffered.read(len(BOM)) != BOM:
        buffered.seek(0)
    begin = buffered.tell()
    while (first := buffered.read(1)) and first in _SPACE:
        pass
    buffered.seek(begin)
    return buffered, first == b"["


def raw(value: Any) -> bytes:
    """A value as JSON, for its identity and for the reject file: how it stood in the file is not known any more."""
    return msgspec.json.encode(value)
