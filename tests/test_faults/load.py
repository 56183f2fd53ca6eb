"""Clients of several tenants that ask in every way there is, and note what they see."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from database.identifier import new_id
from tests.process import script
from tests.test_faults.attempt import Attempt
from tests.test_faults.callers import Caller

NEW_MESSAGE = "/chat/new/message/"
_WORDS = ["word", "你好", "👩‍👩‍👧", "naïve", "0", "\n", "a longer one, with a comma", "🏳️‍🌈"]
_RATES = [100, 300, 1000]
_LONGEST_CONVERSATION = 4
# Longer than anything takes that is well.
_TIMEOUT = 60.0


class Load:
    """Clients that ask until they are told to stop. `attempts` grows as they do."""

    def __init__(self, url: str, callers: Sequence[Caller], chance: random.Random) -> None:
        """One client for each of `callers`, in which a key may occur more than once."""
        self.callers = callers
        self.attempts: list[Attempt] = []
        self._clients = [_Client(url, caller, random.Random(chance.random()), self.attempts) for caller in callers]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The clients ask meanwhile; at the end, each hears what it has asked last."""
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as clients:
            for client in self._clients:
                clients.create_task(client.run(stopping))
            yield
            stopping.set()

    async def accepted(self, many: int) -> None:
        """Wait until the service has accepted so many more."""
        before = self._accepted()
        while self._accepted() < before + many:
            await asyncio.sleep(0.01)

    def _accepted(self) -> int:
        return sum(attempt.was_accepted for attempt in self.attempts)


class _Client:
    """Asks one thing after the other, over connections that it keeps."""

    def __init__(self, url: str, caller: Caller, chance: random.Random, attempts: list[Attempt]) -> None:
        self._url = url
        self._caller = caller
        self._chance = chance
        self._attempts = attempts
        self._conversation: tuple[str, int] | None = None
        self._ways: list[Callable[[httpx2.AsyncClient, Attempt], Awaitable[None]]] = [
            *[self._whole, self._streamed, self._continued] * 2,
            self._left,
            self._background,
            self._completion,
            self._failing,
        ]

    async def run(self, stopping: asyncio.Event) -> None:
        headers = {"Authorization": f"Bearer {self._caller.key}"}
        async with httpx2.AsyncClient(base_url=self._url, headers=headers, timeout=_TIMEOUT) as client:
            while not stopping.is_set():
                way = self._chance.choice(self._ways)
                attempt = self._attempt(fail_after=self._chance.randrange(40) if way == self._failing else None)
                self._attempts.append(attempt)
                try:
                    await way(client, attempt)
                except httpx2.TimeoutException as error:
                    raise AssertionError(f"no answer within {_TIMEOUT:g} s to {attempt}") from error
                except httpx2.TransportError:
                    pass
                if not attempt.was_accepted:
                    # As clients do that are told to come again.
                    await asyncio.sleep(self._chance.uniform(0.1, 0.6))

    def _attempt(self, **fields: Any) -> Attempt:
        said = f"{new_id()} " + " ".join(self._chance.choices(_WORDS, k=self._chance.randrange(20)))
        given = {"rate": self._chance.choice(_RATES), **{name: one for name, one in fields.items() if one is not None}}
        caller = self._caller
        return Attempt(tenant_id=caller.tenant_id, key_id=caller.key_id, prompt=script(said, **given), said=said)

    async def _whole(self, client: httpx2.AsyncClient, attempt: Attempt, **body: Any) -> None:
        response = await client.post(NEW_MESSAGE, json={"prompt": attempt.prompt, **body})
        attempt.status = response.status_code
        answer = response.json()
        if attempt.was_refused:
            attempt.code = answer["error"]["code"]
            return
        attempt.message_id, attempt.heard, attempt.outcome = answer["message_id"], answer["response"], "completed"
        attempt.tokens = _tokens(answer["usage"])
        self._conversation = answer["conversation_id"], len(answer["history"])

    async def _continued(self, client: httpx2.AsyncClient, attempt: Attempt) -> None:
        known, self._conversation = self._conversation, None
        body = {"conversation_id": known[0]} if known is not None and known[1] < _LONGEST_CONVERSATION * 2 else {}
        await self._whole(client, attempt, **body)

    async def _failing(self, client: httpx2.AsyncClient, attempt: Attempt) -> None:
        await self._chance.choice([self._whole, self._streamed])(client, attempt)

    async def _streamed(self, client: httpx2.AsyncClient, attempt: Attempt, *, events: int | None = None) -> None:
        body = {"prompt": attempt.prompt, "stream": True}
        async with client.stream("POST", NEW_MESSAGE, json=body) as response:
            await _accepted(response, attempt)
            read = 0
            async for _ in _heard(response, attempt):
                read += 1
                if read == events:
                    return

    async def _left(self, client: httpx2.AsyncClient, attempt: Attempt) -> None:
        await self._streamed(client, attempt, events=self._chance.randrange(1, 10))

    async def _background(self, client: httpx2.AsyncClient, attempt: Attempt) -> None:
        response = await client.post(NEW_MESSAGE, json={"prompt": attempt.prompt, "background": True})
        await _accepted(response, attempt)
        if attempt.was_refused:
            return
        begun = response.json()
        attempt.message_id = begun["message_id"]
        # It runs on, whatever happens meanwhile to who listens, or to who is listened to.
        seen: dict[str, str] = {}
        while attempt.outcome is None:
            try:
                async with client.stream("GET", begun["stream_url"], headers=seen) as stream:
                    if stream.status_code == 200:
                        async for event_id in _heard(stream, attempt):
                            if event_id is not None:
                                seen = {"Last-Event-ID": event_id}
                    else:
                        assert stream.status_code == 503, await stream.aread()
            except httpx2.TimeoutException:
                raise
            except httpx2.TransportError:
                pass
            if attempt.outcome is None:
                await asyncio.sleep(0.1)

    async def _completion(self, client: httpx2.AsyncClient, attempt: Attempt) -> None:
        body = {
            "model": "scripted",
            "messages": [{"role": "user", "content": attempt.prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            await _accepted(response, attempt)
            usage: dict[str, Any] | None = None
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    assert usage is not None
                    attempt.outcome, attempt.tokens = "completed", _tokens(usage)
                elif line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        attempt.code = event["error"]["code"]
                        return
                    usage = event["usage"] or usage
                    attempt.heard += "".join(one["delta"].get("content") or "" for one in event["choices"])


async def _accepted(response: httpx2.Response, attempt: Attempt) -> None:
    attempt.status = response.status_code
    if attempt.was_refused:
        attempt.code = json.loads(await response.aread())["error"]["code"]


async def _heard(response: httpx2.Response, attempt: Attempt) -> AsyncIterator[str | None]:
    """Note the events of a stream under `/chat` as they come; yields the ids of those that are whole."""
    if attempt.was_refused:
        return
    event_id: str | None = None
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            event_id = line.removeprefix("id: ")
        elif line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            attempt.message_id = event["message_id"]
            attempt.heard += event.get("text", "")
            if "error" in event:
                attempt.outcome, attempt.code = event["status"], event["error"]["code"]
            elif "finish_reason" in event:
                attempt.outcome, attempt.tokens = "completed", _tokens(event["usage"])
            yield event_id


def _tokens(usage: dict[str, Any]) -> tuple[int, int]:
    return usage["prompt_tokens"], usage["completion_tokens"]
