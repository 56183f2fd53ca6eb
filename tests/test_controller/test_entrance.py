"""A crowd is worked on a few requests at a time, in the order it came, and nobody who waits holds it up."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.controller.entrance import _AT_ONCE, Entrance

_CROWD = 3 * _AT_ONCE


class Crowd:
    """Requests that stay where they are until they are told to go on."""

    def __init__(self) -> None:
        self.entered: list[int] = []
        self.sent: list[Message] = []
        self.go_on = [asyncio.Event() for _ in range(_CROWD)]
        self.entrance = Entrance(self._app)
        self.then: Callable[[Scope, Send], Awaitable[None]] = _answer

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.append(scope["number"])
        await self.go_on[scope["number"]].wait()
        await self.then(scope, send)
        # The rest of an answer takes as long as it takes.
        await asyncio.Event().wait()

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def come(self) -> list[asyncio.Task[None]]:
        return [
            asyncio.create_task(self.entrance({"type": "http", "number": number}, _receive, self.send))
            for number in range(_CROWD)
        ]

    async def until(self, count: int) -> None:
        while len(self.entered) < count:
            await asyncio.sleep(0)


async def _receive() -> Message:
    return {"type": "http.disconnect"}


async def _answer(scope: Scope, send: Send) -> None:
    await send({"type": "http.response.start"})


async def _begin(scope: Scope, send: Send) -> None:
    scope["state"]["begun"]()


async def _fail(scope: Scope, send: Send) -> None:
    raise LookupError


async def _leave(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.controller.entrance._LONGEST_SECONDS", 3600.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("then", [_answer, _begin, _fail], ids=["answers", "has begun", "fails"])
async def test_the_next_request_comes_in_when_one_answers_has_begun_or_fails(
    then: Callable[[Scope, Send], Awaitable[None]],
) -> None:
    crowd = Crowd()
    crowd.then = then
    tasks = crowd.come()
    await crowd.until(_AT_ONCE)
    for number in range(_CROWD):
        for _ in range(10):
            await asyncio.sleep(0)
        assert crowd.entered == list(range(min(_CROWD, number + _AT_ONCE)))
        crowd.go_on[number].set()
        await crowd.until(min(_CROWD, number + 1 + _AT_ONCE))
    await _leave(tasks)


async def test_requests_that_wait_for_something_make_room() -> None:
    crowd = Crowd()
    tasks = crowd.come()
    await crowd.until(_CROWD)
    assert crowd.entered == list(range(_CROWD))
    await _leave(tasks)


@pytest.mark.usefixtures("patient")
async def test_an_answer_makes_room_for_one_request_only() -> None:
    crowd = Crowd()
    tasks = crowd.come()
    await crowd.until(_AT_ONCE)

    async def answer_often(scope: Scope, send: Send) -> None:
        for _ in range(5):
            await send({"type": "http.response.body"})

    crowd.then = answer_often
    crowd.go_on[0].set()
    await crowd.until(_AT_ONCE + 1)
    while len(crowd.sent) < 5:
        await asyncio.sleep(0)
    assert len(crowd.entered) == _AT_ONCE + 1
    await _leave(tasks)
    assert len(crowd.entered) == _AT_ONCE + 1
