"""What becomes of a child that dies, hangs, or does not want to end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app import child_process
from app.child_process import UNUSABLE, ChildProcess
from services.inference import pulse
from services.inference.engine_client import EngineClient
from services.inference.pulse import engine_hangs
from services.inference.wire import Ready, ToClient, receive_from_server


@asynccontextmanager
async def kept(child: ChildProcess) -> AsyncIterator[asyncio.Task[bool]]:
    keeping = asyncio.create_task(child.keep())
    try:
        async with asyncio.timeout(60):
            yield keeping
    finally:
        await child.stop(5)
        await keeping


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def pid_of(child: ChildProcess) -> int:
    assert child._process is not None
    return child._process.pid


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_FIRST_BACKOFF", 0.01)


async def test_an_engine_that_is_stopped_in_its_tracks_is_killed_and_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[ToClient] = []

    async def receive(reader: asyncio.StreamReader) -> ToClient:
        heard.append(await receive_from_server(reader))
        return heard[-1]

    monkeypatch.setattr(pulse, "receive_from_server", receive)
    path = tmp_path / "engine.sock"
    command = [sys.executable, "-m", "services.inference", "--engine=scripted", f"--socket={path}"]
    client = EngineClient(path)
    connecting = asyncio.create_task(client.run())
    child = ChildProcess("engine", command, hangs=lambda: engine_hangs(path, 2))
    async with kept(child):
        # While it loads, it has more time.
        await until(lambda: any(isinstance(message, Ready) for message in heard))
        await until(lambda: client._ready)
        stopped = pid_of(child)
        os.kill(stopped, signal.SIGSTOP)
        await until(lambda: not client._ready)
        await until(lambda: client._ready)
        assert pid_of(child) != stopped
    connecting.cancel()
    assert caplog.text.count("no sign of life") == 1
    assert "status -9" in caplog.text


async def test_a_child_of_no_use_is_not_started_again() -> None:
    child = ChildProcess("engine", [sys.executable, "-c", f"raise SystemExit({UNUSABLE})"])
    async with kept(child) as keeping:
        assert await keeping is False


async def test_a_child_that_dies_at_once_is_started_again_and_again_ever_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with kept(ChildProcess("engine", ["false"])):
        await until(lambda: caplog.text.count("with status 1") == 4)
    waits = [record.args[2] for record in caplog.records if isinstance(record.args, tuple) and len(record.args) == 3]
    assert waits[:4] == [0.01, 0.02, 0.04, 0.08]


async def test_a_program_that_is_not_there_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with kept(ChildProcess("engine", ["/there/is/no/such/program"])):
        await until(lambda: caplog.text.count("could not be started") == 2)


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"


@pytest.mark.parametrize("hurried", [False, True])
async def test_a_child_that_does_not_end_is_killed(tmp_path: Path, *, hurried: bool) -> None:
    said = tmp_path / "said"
    child = ChildProcess("api", ["sh", "-c", f'exec {sys.executable} -c "{STUBBORN}" > {said}'])
    async with kept(child) as keeping:
        await until(lambda: said.exists() and said.read_text() == "up\n")
        pid = pid_of(child)
        stopping = asyncio.create_task(child.stop(60 if hurried else 0.05))
        if hurried:
            await asyncio.sleep(0)
            child.hurry(0.05)
        await stopping
        assert await keeping is True
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
