"""Which service this is: what tells a restarted process that its predecessor is dead."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from database.identifier import new_id


class AlreadyRunning(Exception):
    """Another service runs on this data directory."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A claimed data directory.

    Attributes:
        id: the same after every restart.
        lock: the file descriptor that holds the claim. Whoever runs turns inherits it, so that the claim outlives a
            killed supervisor for as long as one of its children lives.
    """

    id: str
    lock: int


@contextmanager
def claim_instance(data_dir: Path) -> Iterator[Instance]:
    """Claim a data directory. Nobody else can meanwhile, so that whoever held it before is known to be dead.

    Raises AlreadyRunning, or OSError for what can be no directory of this user's.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(data_dir)) from error
    with (data_dir / "instance").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"A service is running on {data_dir}, or ending its last answers.") from error
        file.seek(0)
        name = file.read().strip()
        if not name:
            name = new_id()
            file.write(name + "\n")
            file.flush()
        yield Instance(name, file.fileno())
