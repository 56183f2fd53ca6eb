"""The JDK's own client and OkHttp leave an event stream in the middle, and go on where they were."""

import subprocess
from pathlib import Path

import pytest

from tests.service import NEW_MESSAGE, Service, script
from tests.test_clients.surroundings import FOLDER, output_of
from tests.test_clients.test_java import OKHTTP, needs_jdk, needs_okhttp

_SAID = '你好 👩‍🚀, "hello"\n' * 8


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ResumingJdk", marks=needs_jdk),
        pytest.param("ResumingOkHttp", marks=[needs_jdk, needs_okhttp]),
    ],
)
async def test_a_client_that_leaves_and_comes_back_has_everything_once(
    service: Service, tmp_path: Path, name: str
) -> None:
    command = compiled(tmp_path, name)
    body = {"prompt": script(_SAID, rate=50), "background": True}
    begun = (await service.ours.post(NEW_MESSAGE, json=body)).json()
    env = {"SERVICE_URL": service.url, "STREAM_URL": begun["stream_url"]}
    found = await output_of(*command, env=env)
    assert "".join(event["text"] for event in found["data"]) == _SAID
    assert found["data"][-1]["finish_reason"] == "stop"
    assert found["connections"] > 5
    assert found["status"] == 204


def compiled(directory: Path, name: str) -> list[str]:
    """What starts the compiled program."""
    class_path = ":".join(map(str, [directory, *OKHTTP]))
    sources = [FOLDER / "java" / f"{each}.java" for each in ("Asking", "Resuming", name)]
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", directory, "-cp", class_path, *sources], check=True)
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", class_path, name]
