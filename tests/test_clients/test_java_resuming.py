"""The JDK's own client and OkHttp leave an event stream in the middle, and go on where they were."""

import shutil
import subprocess
from pathlib import Path

import pytest

from services.live_turn import LiveTurn
from services.turn_follower import TurnFollower
from tests.service import NEW_MESSAGE, Service, running_service, script
from tests.test_clients.surroundings import FOLDER, output_of
from tests.test_clients.test_java import OKHTTP, needs_jdk, needs_okhttp

_OFTEN = 6
_SAID = '你好 👩‍🚀, "hello"\n' * 8


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ResumingJdk", marks=needs_jdk),
        pytest.param("ResumingOkHttp", marks=[needs_jdk, needs_okhttp]),
    ],
)
async def test_a_client_that_leaves_and_comes_back_has_everything_once(
    migrated_sqlite: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    async with running_service(f"sqlite:///{database}", tmp_path) as service:
        hurry_after(_OFTEN, service, monkeypatch)
        command = compiled(tmp_path, name)
        body = {"prompt": script(_SAID, rate=10), "background": True}
        begun = (await service.ours.post(NEW_MESSAGE, json=body)).json()
        env = {"SERVICE_URL": service.url, "STREAM_URL": begun["stream_url"]}
        found = await output_of(*command, env=env)
    assert "".join(event["text"] for event in found["data"]) == _SAID
    assert found["data"][-1]["finish_reason"] == "stop"
    assert found["connections"] > _OFTEN
    assert found["status"] == 204


def hurry_after(often: int, service: Service, patch: pytest.MonkeyPatch) -> None:
    """Let the answer last until it has been listened to so often: it must not be over before the program runs."""
    listened, follow = 0, TurnFollower.follow

    async def counted(self: TurnFollower, tenant_id: str, turn_id: str, *, reads_history: bool = True) -> LiveTurn:
        nonlocal listened
        listened += 1
        if listened > often:
            service.hurry()
        return await follow(self, tenant_id, turn_id, reads_history=reads_history)

    patch.setattr(TurnFollower, "follow", counted)


def compiled(directory: Path, name: str) -> list[str]:
    """What starts the compiled program."""
    class_path = ":".join(map(str, [directory, *OKHTTP]))
    sources = [FOLDER / "java" / f"{each}.java" for each in ("Asking", "Resuming", name)]
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", directory, "-cp", class_path, *sources], check=True)
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", class_path, name]
