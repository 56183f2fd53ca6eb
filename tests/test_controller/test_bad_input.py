"""Bad input is a clear 4xx in OpenAI's envelope that names the field, never reaches the engine, and harms nobody."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.service import NEW_MESSAGE, Service, running_service, script

GOOD: dict[str, Any] = {"prompt": "hi"}
BAD_BODIES: list[tuple[str | None, dict[str, Any]]] = [
    ("prompt", {}),
    ("prompt", {"prompt": ""}),
    ("prompt", {"prompt": None}),
    ("prompt", {"prompt": 5}),
    ("prompt", {"prompt": ["hi"]}),
    ("prompt", {"prompt": "a\x00b"}),
    ("prompt", {"prompt": "a\x1b[2Jb"}),
    ("prompt", {"prompt": "a\x7fb"}),
    ("prompt", {"prompt": "x" * 1_000_000}),
    ("prompt", {"prompt": "好" * 3_000}),
    ("max_tokens", GOOD | {"max_tokens": 0}),
    ("max_tokens", GOOD | {"max_tokens": -1}),
    ("max_tokens", GOOD | {"max_tokens": 10**9}),
    ("max_tokens", GOOD | {"max_tokens": 10**30}),
    ("max_tokens", GOOD | {"max_tokens": 1.5}),
    ("max_tokens", GOOD | {"max_tokens": "5"}),
    ("max_tokens", GOOD | {"max_tokens": True}),
    ("temperature", GOOD | {"temperature": -1}),
    ("temperature", GOOD | {"temperature": 1e9}),
    ("temperature", GOOD | {"temperature": "hot"}),
    ("top_p", GOOD | {"top_p": 0}),
    ("top_p", GOOD | {"top_p": 2}),
    ("top_p", GOOD | {"top_p": None}),
    ("stream", GOOD | {"stream": "yes"}),
    ("top_q", GOOD | {"top_q": 1}),
    ("background", GOOD | {"background": "yes"}),
    ("user", GOOD | {"user": ""}),
    ("user", GOOD | {"user": "a\x00"}),
    ("user", GOOD | {"user": "u" * 257}),
    ("history", GOOD | {"history": "hello"}),
    ("history.0.role", GOOD | {"history": [{"role": "robot", "content": "a"}]}),
    ("history.0.content", GOOD | {"history": [{"role": "user", "content": "\x00"}]}),
    ("history.0.name", GOOD | {"history": [{"role": "user", "content": "a", "name": "b"}]}),
    ("history", GOOD | {"history": [{"role": "user", "content": "a" * 9_000}]}),
    ("conversation_id", GOOD | {"conversation_id": "nonsense"}),
    ("conversation_id", GOOD | {"conversation_id": "0" * 32 + "\n"}),
    (None, GOOD | {"conversation_id": "0" * 32, "history": []}),
]  # fmt: skip
BAD_BYTES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"prompt"',
    b"prompt=hi",
    b'{"prompt": "hi"} trailing',
    b'{"prompt": "\xff\xfe"}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "hi", "\\ud800": 1}',
    b'{"prompt": "hi", "' + b"x" * 100_000 + b'": 1}',
    b'{"prompt": "hi", "history": [{"role": "user", "content": "\\udfff"}]}',
    b'{"prompt": "hi", "temperature": NaN}',
    b'{"prompt": "hi", "temperature": Infinity}',
    b'{"prompt": "hi", "temperature": 1e999}',
    b"[" * 100_000,
    b"[" * 4_000_000,
    b'{"a":' * 800_000,
    b'{"prompt": "hi", "max_tokens": ' + b"9" * 5_000 + b"}",
    b'{"prompt": "hi", "max_tokens": 1' + b"0" * 4_000 + b"}",
    b'{"prompt": "hi", "max_tokens": -0.0}',
    b'{"prompt": "hi", "history": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"prompt": {"' + b"x" * 100_000 + b'": []}}',
]


@pytest.fixture(scope="module")
async def service(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One for all of these: what one of them breaks, the next would find. What is refused never reaches a database."""
    directory = tmp_path_factory.mktemp("bad-input")
    shutil.copy(migrated_sqlite, directory / "chatglm.db")
    async with running_service(f"sqlite:///{directory / 'chatglm.db'}", directory) as service:
        yield service


def is_envelope(body: dict[str, Any]) -> bool:
    return set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("param", "body"), BAD_BODIES, ids=[f"{param}-{i}" for i, (param, _) in enumerate(BAD_BODIES)])
async def test_a_bad_field_is_named(service: Service, param: str | None, body: dict[str, Any]) -> None:
    response = await service.ours.post(NEW_MESSAGE, json=body)
    assert 400 <= response.status_code < 500, response.text
    assert is_envelope(response.json())
    named = response.json()["error"]["param"]
    assert named == param or (param == "history" and named == "prompt")
    assert len(response.text) < 1000
    await answers_still(service)


@pytest.mark.parametrize("content", BAD_BYTES, ids=[content[:30].decode("latin-1") for content in BAD_BYTES])
async def test_what_is_not_such_json_is_refused(service: Service, content: bytes) -> None:
    response = await service.ours.post(NEW_MESSAGE, content=content, headers={"Content-Type": "application/json"})
    assert 400 <= response.status_code < 500, response.text
    assert is_envelope(response.json())
    await answers_still(service)


async def answers_still(service: Service) -> None:
    """The next question is answered, and nothing of what was refused is in the log."""
    answer = await service.ours.post(NEW_MESSAGE, json={"prompt": script("fine")})
    assert answer.json()["response"] == "fine"
    log = (await service.ours.get("/chat/get/messages/", params={"limit": 2})).json()["messages"]
    assert [message["response"] for message in log] == ["fine"] * len(log)


@pytest.mark.parametrize(
    "content", [b"[" * 4_000_000, b"9" * 5_000, b"1e999", b'"\\ud800"', b'{"\\ud800": 1}', b"\xff", b'{"\xff": 1}', b""]
)
async def test_what_is_not_such_json_is_refused_with_an_idempotency_key_too(service: Service, content: bytes) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "key"}
    response = await service.ours.post(NEW_MESSAGE, content=content, headers=headers)
    assert response.status_code == 400
    assert is_envelope(response.json())


@pytest.mark.parametrize("key", [b"", b"\xff", b"a b", b"k" * 256, "好".encode()])
async def test_what_is_no_idempotency_key_is_refused(service: Service, key: bytes) -> None:
    response = await service.ours.post(NEW_MESSAGE, json=GOOD, headers=[(b"Idempotency-Key", key)])
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "Idempotency-Key"


async def test_a_prompt_longer_than_the_context_is_refused_with_the_counts(service: Service) -> None:
    error = (await service.ours.post(NEW_MESSAGE, json={"prompt": "a" * 8192})).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "prompt"
    assert "8192" in error["message"]
    assert "8194" in error["message"]


async def test_a_body_larger_than_the_service_reads_is_refused(service: Service) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 100_000

    announced = await service.ours.post(NEW_MESSAGE, content=b"x" * 5_000_000)
    unannounced = await service.ours.post(NEW_MESSAGE, content=in_pieces())
    for response in (announced, unannounced):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"


async def test_an_unknown_route_and_a_wrong_method_answer_in_the_envelope(service: Service) -> None:
    unknown = await service.ours.get("/chat/nonsense")
    wrong = await service.ours.get(NEW_MESSAGE)
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert is_envelope(unknown.json())
    assert is_envelope(wrong.json())
    assert wrong.headers["allow"] == "POST"
    # Each method is a route of its own.
    assert (await service.ours.put("/admin/v1/tenants/x")).headers["allow"] == "DELETE, GET, POST"
