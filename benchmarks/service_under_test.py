"""An engine and a service of the benchmark's own, each in its processes, as they run in production."""

import http.client
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.settings import PREFIX
from benchmarks.processes import child_that_runs

_ROOT = Path(__file__).parent.parent
_START_SECONDS = 900.0
_STOP_SECONDS = 20.0
_SHOWN_LOG_LINES = 30


class CannotStart(Exception):
    """The engine or the service did not come up; the message ends with their log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUnderTest:
    """What was started."""

    url: str
    key: str
    engine_socket: Path
    database_url: str
    api_pid: int


@contextmanager
def started(
    *,
    engine_arguments: Sequence[str],
    max_running: int,
    database_url: str | None,
    key: str | None,
    database_pool: int | None = None,
    migration_database_url: str | None = None,
) -> Iterator[ServiceUnderTest]:
    """Start both, wait until the service can answer, stop both at the end.

    Args:
        engine_arguments: of `python -m services.inference`, besides its socket and its queue.
        max_running: answers at once; as many more may wait.
        database_url: a database for the service's rows; None for a new SQLite file.
        database_pool: connections of the service; None for as many as it has by default.
        migration_database_url: the same for the role that may migrate it; None where that is the same one.
        key: an API key of that database; None makes one, which works where there is no tenant yet.
    """
    with tempfile.TemporaryDirectory(prefix="chatglm-benchmark-") as name, ExitStack() as stack:
        directory = Path(name)
        log, path, port = directory / "log", directory / "engine.sock", free_port()
        made = key or secrets.token_urlsafe(32)
        settings = {
            "port": port,
            "data_dir": directory / "data",
            "engine_socket": path,
            "secret": secrets.token_urlsafe(32),
            "bootstrap_api_key": made,
            "database_url": database_url,
            "database_pool": database_pool,
            "migration_database_url": migration_database_url,
        }
        environment = _environment(settings)
        bounds = [f"--max-queued={max_running}", f"--max-running={max_running}"]
        _run_migrations(environment, directory, log)
        engine = ["services.inference", f"--socket={path}", *bounds, *engine_arguments]
        processes = [
            stack.enter_context(_running(command, environment, directory, log)) for command in (engine, ["app"])
        ]
        _wait_until_ready(port, processes, log)
        yield ServiceUnderTest(
            url=f"http://127.0.0.1:{port}",
            key=made,
            engine_socket=path,
            database_url=database_url or f"sqlite:///{directory / 'data' / 'chatglm.db'}",
            api_pid=child_that_runs(processes[1].pid, "app.api"),
        )


def _environment(settings: dict[str, object]) -> dict[str, str]:
    # Nothing of the caller's own service: neither its settings nor, since both run elsewhere, its .env.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ours = {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    found = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return inherited | ours | {"PYTHONPATH": found}


def free_port() -> int:
    """One that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _run_migrations(environment: dict[str, str], directory: Path, log: Path) -> None:
    command = [sys.executable, "-m", "tools.admin", "database", "upgrade"]
    with log.open("ab") as output:
        done = subprocess.run(command, env=environment, cwd=directory, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        raise CannotStart(f"The database cannot be prepared.\n{_tail(log)}")


@contextmanager
def _running(
    arguments: Sequence[str], environment: dict[str, str], directory: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=environment,
            cwd=directory,
            # The engine ends when this pipe does.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            # A Ctrl-C is for the benchmark, which stops them in order.
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(port: int, processes: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while not answers(port, "/readyz"):
        if any(process.poll() is not None for process in processes):
            raise CannotStart(f"The engine or the service has stopped.\n{_tail(log)}")
        if time.monotonic() > give_up:
            raise CannotStart(f"The service is not ready after {_START_SECONDS:g} s.\n{_tail(log)}")
        time.sleep(0.1)


def answers(port: int, path: str) -> bool:
    """Whether this path is answered well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_SHOWN_LOG_LINES:])
