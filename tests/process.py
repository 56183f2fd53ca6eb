"""The whole service as its own processes, as `make run` starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import httpx2

from app.settings import PREFIX

ROOT = Path(__file__).parent.parent
KEY = "a bootstrap key of the tests, long enough"
# Below those that systems give to whoever asks for any: another test, or a client of one, would get a port of ours
# between its choice and its use. Tests that run beside these begin elsewhere.
_FIRST_PORT, _PORTS_OF_A_RUN = 10_000, 200
_RUN = _FIRST_PORT + os.getpid() % 100 * _PORTS_OF_A_RUN
_PORTS = cycle(range(_RUN, _RUN + _PORTS_OF_A_RUN))


@dataclass(frozen=True)
class ServiceProcess:
    """A started service."""

    process: subprocess.Popen[str]
    client: httpx2.Client
    url: str

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Returns when /readyz says 200."""
        give_up = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, "the service has stopped"
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            assert time.monotonic() < give_up, "the service does not become ready"
            # What asks all the time takes the processor from what it waits for.
            time.sleep(0.02)

    def children(self) -> list[int]:
        """Process ids of the engine and the API."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def child(self, module: str) -> int:
        """The process id of the child that runs this module."""
        for pid in self.children():
            if module in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                return pid
        raise AssertionError(f"no child runs {module}")

    def kill_everything(self) -> None:
        """`kill -9` of the whole service."""
        pids = [self.process.pid, *self.children()]
        # In one moment: none of them must see that another is gone, and say so.
        for sent in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, sent)
        self.process.wait()


def environment(data_dir: Path, **settings: object) -> dict[str, str]:
    """A clean environment with these settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    fields: dict[str, object] = {"data_dir": data_dir, "engine": "scripted", "port": free_port(), **settings}
    return inherited | {f"{PREFIX}{name.upper()}": str(value) for name, value in fields.items()}


def free_port() -> int:
    """A port of the loopback that stays free until a process asks for it by name."""
    for port in islice(_PORTS, _PORTS_OF_A_RUN):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def run_module(module: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` to its end."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


@contextmanager
def started_service(env: dict[str, str], log: Path) -> Iterator[ServiceProcess]:
    """Start it with a migrated database, wait until it is ready; killed at the end if it still runs."""
    url = f"http://127.0.0.1:{env['CHATGLM_PORT']}"
    headers = {"Authorization": f"Bearer {KEY}"}
    with log.open("a") as output, httpx2.Client(base_url=url, headers=headers, timeout=30) as client:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "--upgrade"], env=env, cwd=ROOT, stdout=output, stderr=output, text=True
        )
        service = ServiceProcess(process, client, url)
        try:
            service.wait_until_ready()
            yield service
        finally:
            if process.poll() is None:
                service.kill_everything()


@contextmanager
def two_services(url: str, directory: Path, **settings: object) -> Iterator[tuple[ServiceProcess, ServiceProcess]]:
    """Two on one database, as replicas run."""
    one, two = (
        environment(directory / name, database_url=url, bootstrap_api_key=KEY, **settings) for name in ("one", "two")
    )
    with started_service(one, directory / "log1") as first, started_service(two, directory / "log2") as second:
        yield first, second


def messages(client: httpx2.Client) -> list[dict[str, object]]:
    """The caller's log, newest first."""
    found: list[dict[str, object]] = client.get("/chat/get/messages/", params={"limit": 100}).json()["messages"]
    return found


def script(say: str, **fields: object) -> str:
    """A prompt that the scripted engine answers so."""
    return json.dumps({"say": say, **fields}, ensure_ascii=False)


def wait_until_gone(pids: list[int]) -> None:
    """Returns when these processes are dead; an orphan may stay a zombie where nobody reaps it."""
    give_up = time.monotonic() + 30
    while any(_state(pid) not in {"gone", "Z"} for pid in pids):
        assert time.monotonic() < give_up
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"
