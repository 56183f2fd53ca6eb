"""Which service this is: what tells a restarted process that its predecessor is dead."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from database.identifier import new_id


class AlreadyRunning(Exception):
    """Another service runs on this data directory."""


@contextmanager
def claim_instance(data_dir: Path) -> Iterator[str]:
    """The id of the service on this data directory, the same after every restart.

    While it is claimed nobody else can claim it, so that whoever ran under it before is known to be dead.
    Raises AlreadyRunning.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "instance").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"A service is running on {data_dir} already.") from error
        file.seek(0)
        instance = file.read().strip()
        if not instance:
            instance = new_id()
            file.write(instance + "\n")
            file.flush()
        yield instance
