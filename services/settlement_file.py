"""Ends of turns that the database would not take, on the disk until it does."""

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import msgspec

from services.settlement import Settlement

log = logging.getLogger(__name__)

# A line is the CRC-32 of the rest in hexadecimal, a space, and JSON.
_SUM_LENGTH = 8


class SettlementFile:
    """An append-only file of this instance's alone. What `append` returned for is on the disk, and is found again.

    A last line that was not written to its end is cut off: nobody was told of it. Damaged lines before it are moved to
    a file beside it, `.refused`, for people to look at.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file can be neither read nor made."""
        self._path = path
        # It holds what was said: no other user of the machine may read it.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._writing = asyncio.Lock()
        self._waiting: dict[str, Settlement] = {}
        self.damaged = 0
        self.size = 0
        self._read()
        _sync_directory(path)

    @property
    def waiting(self) -> Mapping[str, Settlement]:
        """What is to be written, by turn, in the order in which it came."""
        return self._waiting

    async def append(self, settlement: Settlement) -> None:
        """Keep this; it is on the disk when this returns. Raises OSError, with nothing kept, if there is no room."""
        async with self._writing:
            await asyncio.to_thread(self._write, _encoded(settlement))
            self._waiting[settlement.turn_id] = settlement

    async def remove(self, turn_id: str) -> None:
        """Forget the turn's; with the last one, the file is emptied.

        A crash before that finds those again that were written; written twice, they change nothing.
        """
        async with self._writing:
            if self._waiting.keys() <= {turn_id} and self.size:
                await asyncio.to_thread(self._cut, 0)
            self._waiting.pop(turn_id, None)

    async def set_aside(self, settlement: Settlement) -> None:
        """Forget one that the database refuses for good, but keep it beside the file."""
        await asyncio.to_thread(self._keep_aside, _encoded(settlement))
        await self.remove(settlement.turn_id)

    def close(self) -> None:
        """Nothing can be appended any more."""
        os.close(self._file)

    def _read(self) -> None:
        content = self._path.read_bytes()
        lines = content.splitlines(keepends=True)
        self.size = len(content)
        if lines and not lines[-1].endswith(b"\n"):
            log.warning("the last line of %s was not written to its end", self._path)
            self._cut(len(content) - len(lines.pop()))
        for line in lines:
            found = _decoded(line.rstrip(b"\n"))
            if found is None:
                self.damaged += 1
                self._keep_aside(line)
            else:
                self._waiting[found.turn_id] = found
        if self.damaged:
            log.error("%d lines of %s are damaged, and kept beside it", self.damaged, self._path)
        if not self._waiting:
            self._cut(0)

    def _write(self, line: bytes) -> None:
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            # Half a line in the middle would damage the next one.
            self._cut(self.size)
            raise
        self.size += len(line)

    def _cut(self, size: int) -> None:
        os.ftruncate(self._file, size)
        os.fsync(self._file)
        self.size = size

    def _keep_aside(self, line: bytes) -> None:
        path = self._path.with_suffix(".refused")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _encoded(settlement: Settlement) -> bytes:
    body = msgspec.json.encode(settlement)
    return b"%08x %b\n" % (crc32(body), body)


def _decoded(line: bytes) -> Settlement | None:
    body = line[_SUM_LENGTH + 1 :]
    try:
        if int(line[:_SUM_LENGTH], 16) != crc32(body):
            return None
        return msgspec.json.decode(body, type=Settlement)
    except (ValueError, msgspec.MsgspecError):
        return None


def _sync_directory(path: Path) -> None:
    # A new file's name is on the disk only with its directory.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
