"""The service as its processes: killed, stopped, restarted, and never waiting for the model."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.process import (
    KEY,
    ROOT,
    ServiceProcess,
    environment,
    messages,
    run_module,
    script,
    started_service,
    wait_until_gone,
)

NEW_MESSAGE = "/chat/new/message/"


@pytest.fixture
def env(database_url: str, tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, database_url=database_url, secret="s" * 40, bootstrap_api_key=KEY)


@pytest.fixture
def sqlite_env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, bootstrap_api_key=KEY)


@pytest.fixture
def service(sqlite_env: dict[str, str], tmp_path: Path) -> Iterator[ServiceProcess]:
    with started_service(sqlite_env, tmp_path / "log") as service:
        yield service


def begin_stream(service: ServiceProcess, prompt: str) -> tuple[httpx2.Response, Iterator[str]]:
    request = service.client.build_request("POST", NEW_MESSAGE, json={"prompt": prompt, "stream": True})
    response = service.client.send(request, stream=True)
    lines = response.iter_lines()
    assert next(lines).startswith("data: ")
    return response, lines


def test_a_service_killed_in_mid_stream_settles_its_turn_when_it_starts_again(
    env: dict[str, str], tmp_path: Path
) -> None:
    with started_service(env, tmp_path / "log") as service:
        done = service.client.post(NEW_MESSAGE, json={"prompt": script("done")}).json()
        response, _ = begin_stream(service, script("a" * 500, rate=20))
        assert [message["status"] for message in messages(service.client)] == ["running", "completed"]
        service.kill_everything()
        response.close()
    with started_service(env, tmp_path / "log") as service:
        interrupted, completed = messages(service.client)
        assert interrupted["status"] == "interrupted"
        assert interrupted["prompt"] == script("a" * 500, rate=20)
        assert (completed["message_id"], completed["response"]) == (done["message_id"], "done")
        answer = service.client.post(NEW_MESSAGE, json={"prompt": script("again")}).json()
        assert answer["response"] == "again"


def test_a_killed_supervisor_takes_its_children_along(service: ServiceProcess) -> None:
    children = service.children()
    assert len(children) == 2
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    wait_until_gone(children)


def test_a_dead_engine_fails_its_turns_and_is_started_again(service: ServiceProcess) -> None:
    api = service.child("app.api")
    response, lines = begin_stream(service, script("a" * 500, rate=20))
    os.kill(service.child("services.inference"), signal.SIGKILL)
    assert '"engine_lost"' in [line for line in lines if line][-1]
    response.close()
    service.wait_until_ready()
    assert service.child("app.api") == api
    assert messages(service.client)[0]["status"] == "failed"
    assert service.client.post(NEW_MESSAGE, json={"prompt": script("again")}).json()["response"] == "again"


def test_a_dead_api_is_started_again_without_the_engine(service: ServiceProcess) -> None:
    engine = service.child("services.inference")
    response, _ = begin_stream(service, script("a" * 500, rate=20))
    os.kill(service.child("app.api"), signal.SIGKILL)
    response.close()
    service.wait_until_ready()
    assert service.child("services.inference") == engine
    assert messages(service.client)[0]["status"] == "interrupted"


def test_sigterm_lets_running_answers_finish_and_exits_cleanly(service: ServiceProcess) -> None:
    response, lines = begin_stream(service, script("a" * 40, rate=40))
    service.process.send_signal(signal.SIGTERM)
    rest = [line for line in lines if line]
    assert '"finish_reason":"stop"' in rest[-1]
    response.close()
    assert service.process.wait(30) == 0


def test_sigterm_cancels_what_outlasts_the_grace_says_so_and_stores_its_text(tmp_path: Path) -> None:
    env = environment(tmp_path, bootstrap_api_key=KEY, shutdown_seconds=1)
    with started_service(env, tmp_path / "log") as service:
        response, lines = begin_stream(service, script("a" * 5000, rate=20))
        service.process.send_signal(signal.SIGTERM)
        assert '"shutting_down"' in [line for line in lines if line][-1]
        response.close()
        assert service.process.wait(30) == 0
    with started_service(env, tmp_path / "log") as service:
        (message,) = messages(service.client)
        assert message["status"] == "cancelled"
        assert message["response"] == "a" * int(str(message["completion_tokens"]))
        assert message["response"] != ""


def test_a_second_ctrl_c_hurries_and_none_leaves_a_traceback(tmp_path: Path) -> None:
    env = environment(tmp_path, bootstrap_api_key=KEY, shutdown_seconds=3600)
    with started_service(env, tmp_path / "log") as service:
        response, lines = begin_stream(service, script("a" * 5000, rate=20))
        service.process.send_signal(signal.SIGINT)
        while service.client.get("/readyz").json()["status"] != "stopping":
            time.sleep(0.05)
        service.process.send_signal(signal.SIGINT)
        assert '"shutting_down"' in [line for line in lines if line][-1]
        response.close()
        assert service.process.wait(60) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_ctrl_c_before_anything_is_loaded_leaves_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "app"]
    with subprocess.Popen(command, env=environment(tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "asyncio" not in said:
            said += process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
        assert process.wait(60) == -signal.SIGINT
    assert "Traceback" not in said


async def test_the_event_loop_never_waits_for_the_model(service: ServiceProcess) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=60) as client:

        async def read() -> int:
            body = {"prompt": script("好" * 200, rate=100), "stream": True}
            async with client.stream("POST", NEW_MESSAGE, json=body) as response:
                return len([line async for line in response.aiter_lines() if line])

        began = time.perf_counter()
        streams = [asyncio.create_task(read()) for _ in range(16)]
        delays = []
        while not all(stream.done() for stream in streams):
            started = time.perf_counter()
            assert (await client.get("/healthz")).status_code == 200
            delays.append(time.perf_counter() - started)
        took = time.perf_counter() - began
        assert min(await asyncio.gather(*streams)) > 2
    assert len(delays) > 100
    # Against the time that the answers took: other tests have the processors as well.
    assert sorted(delays)[int(len(delays) * 0.99)] < took / 20


def test_two_services_cannot_share_a_data_directory(service: ServiceProcess, sqlite_env: dict[str, str]) -> None:
    second = run_module("app", env=sqlite_env | {"CHATGLM_PORT": "0"})
    assert second.returncode == 2
    assert "running" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(
    service: ServiceProcess, sqlite_env: dict[str, str], tmp_path: Path
) -> None:
    second = run_module("app", env=sqlite_env | {"CHATGLM_DATA_DIR": str(tmp_path / "other")})
    assert second.returncode == 2
    assert "Cannot listen on" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_schema_that_is_not_current_is_said(tmp_path: Path) -> None:
    done = run_module("app", env=environment(tmp_path))
    assert done.returncode == 2
    assert "database upgrade" in done.stderr


def test_a_bad_setting_is_named_and_its_value_is_not(tmp_path: Path) -> None:
    bad = {"port": "many", "bootstrap_api_key": "too-short", "nonsense": 1}
    done = run_module("app", env=environment(tmp_path, **bad))
    assert done.returncode == 2
    for name in ("CHATGLM_PORT", "CHATGLM_BOOTSTRAP_API_KEY", "CHATGLM_NONSENSE"):
        assert name in done.stderr
    assert "too-short" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_key_goes_to_a_private_file_when_there_is_no_terminal(tmp_path: Path) -> None:
    env = environment(tmp_path)
    with started_service(env, tmp_path / "log") as service:
        path = tmp_path / "first-key"
        assert path.stat().st_mode & 0o777 == 0o600
        key = path.read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        answer = service.client.post(NEW_MESSAGE, json={"prompt": script("hello")}, headers=headers)
        assert answer.json()["response"] == "hello"
    log = (tmp_path / "log").read_text()
    assert str(path) in log
    assert key not in log


def test_the_first_key_is_printed_to_a_terminal_with_a_curl_that_streams(tmp_path: Path) -> None:
    env = environment(tmp_path)
    assert run_module("tools.admin", "database", "upgrade", env=env).returncode == 0
    ours, theirs = os.openpty()
    with subprocess.Popen([sys.executable, "-m", "app"], env=env, cwd=ROOT, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = ""
        while "curl" not in shown or "}'" not in shown:
            shown += os.read(ours, 4096).decode()
        with httpx2.Client(base_url=f"http://127.0.0.1:{env['CHATGLM_PORT']}") as client:
            ServiceProcess(process, client, "").wait_until_ready()  # type: ignore[arg-type]  # bytes, not read
        command = "curl" + shown.partition("curl")[2].partition("}'")[0].replace("\r", "") + "}'"
        streamed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
        process.terminate()
    os.close(ours)
    assert '"finish_reason":"stop"' in streamed
    assert not (tmp_path / "first-key").exists()


def test_a_data_directory_may_be_deeper_than_a_sockets_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with started_service(environment(deep, bootstrap_api_key=KEY), tmp_path / "log") as service:
        assert service.client.post(NEW_MESSAGE, json={"prompt": script("deep")}).json()["response"] == "deep"


def test_an_engine_that_loads_stops_when_its_starter_is_gone(tmp_path: Path) -> None:
    env = environment(tmp_path, engine="native", model="demo", cache_dir=tmp_path / "cache")
    assert run_module("tools.admin", "database", "upgrade", env=env).returncode == 0
    with httpx2.Client(base_url=f"http://127.0.0.1:{env['CHATGLM_PORT']}") as client:
        with subprocess.Popen([sys.executable, "-m", "app"], env=env, cwd=ROOT, text=True) as process:
            service = ServiceProcess(process, client, "")
            while "loaded" not in readiness(client):
                assert process.poll() is None
            engine = service.child("services.inference")
            process.kill()
        wait_until_gone([engine])


def readiness(client: httpx2.Client) -> str:
    try:
        return str(client.get("/readyz").json()["detail"])
    except httpx2.TransportError:
        return ""


def test_what_the_service_writes_is_for_its_user_alone(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", bootstrap_api_key=KEY)
    with started_service(env, tmp_path / "log"):
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0
        for name in ("chatglm.db", "chatglm.db-wal", "secret", "engine.sock"):
            assert (tmp_path / "data" / name).stat().st_mode & 0o077 == 0, name
