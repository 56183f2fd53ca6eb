"""The JDK's own client and OkHttp against the running service."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service
from tests.test_clients.surroundings import FOLDER, PROMPTS, TEXT, output_of, statuses_of, surroundings

# Where Debian's libokhttp-java puts them; it has no okhttp-sse.
OKHTTP = [Path("/usr/share/java") / name for name in ("okhttp.jar", "okio.jar")]
needs_jdk = pytest.mark.skipif(shutil.which("javac") is None, reason="there is no JDK (17 or newer)")
needs_okhttp = pytest.mark.skipif(
    not all(jar.exists() for jar in OKHTTP), reason="OkHttp is not here; on Debian: apt-get install libokhttp-java"
)
CLIENTS = [
    pytest.param("JdkClient", marks=needs_jdk),
    pytest.param("OkHttp", marks=[needs_jdk, needs_okhttp]),
]


@pytest.fixture(scope="module", params=CLIENTS)
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What starts the compiled program."""
    classes = tmp_path_factory.mktemp("classes")
    class_path = ":".join(map(str, [classes, *OKHTTP]))
    sources = [FOLDER / "java" / f"{name}.java" for name in ("Asking", request.param)]
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", classes, "-cp", class_path, *sources], check=True)
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", class_path, request.param]


@pytest.fixture(scope="module")
async def found(command: list[str], service: Service) -> AsyncIterator[Any]:
    """What the program found, and how the answer that it left ended."""
    async with surroundings(service) as env:
        found = await output_of(*command, env=env)
    yield found | {"left": await statuses_of(service, PROMPTS["LONG"])}
    for entry in (await service.ours.get("/chat/get/messages/", params={"limit": 100})).json()["messages"]:
        assert (await service.ours.delete(f"/chat/messages/{entry['message_id']}")).status_code == 200


def contents(events: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


async def test_whole_and_streamed_answers_are_the_same(found: Any) -> None:
    *chunks, done = found["streamed"]
    assert done == "[DONE]"
    assert found["whole"]["choices"][0]["message"]["content"] == contents(chunks) == TEXT
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_tools_are_called(found: Any) -> None:
    (call,) = found["called"]["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "北京"}


async def test_errors_have_their_code_and_say_when_to_try_again(found: Any) -> None:
    errors = found["errors"]
    assert {status: (error["error"]["code"], error["retry_after"]) for status, error in errors.items()} == {
        "400": ("invalid_value", "never"),
        "401": ("invalid_api_key", "never"),
        "403": ("insufficient_scope", "never"),
        "404": ("model_not_found", "never"),
        "409": ("conversation_locked", "1"),
        "429": ("rate_limit_exceeded", "never"),
        "503": ("generation_failed", "1"),
    }


async def test_a_stream_that_breaks_off_ends_with_an_error(found: Any) -> None:
    *chunks, error = found["broken"]
    assert contents(chunks) == "hel"
    assert error["error"]["code"] == "generation_failed"
    assert not [choice for event in chunks for choice in event["choices"] if choice["finish_reason"]]


async def test_whoever_leaves_stops_the_answer(found: Any) -> None:
    assert found["left"] == ["cancelled"]
