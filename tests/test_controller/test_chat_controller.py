"""`/chat/new/message/`, as its clients use it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import regex

from tests.service import NEW_MESSAGE, Service, running_service, script, stream, text_of

ANSWERS = [
    "",
    "a",
    "ab",
    "好",
    "你好，世界！" * 40,
    "👨‍👩‍👧‍👦 and 🇨🇳🇩🇪, 👍🏽!",
    "line\nline\r\n\ttab",
    "e\u0301 ẞ ﷽",
    "🙂",
]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_streamed_stored_and_whole_text_are_the_same(service: Service, answer: str) -> None:
    for step in (1, 2, 3, 7):
        events = await stream(service.ours, script(answer, step=step))
        whole = (await service.ours.post(NEW_MESSAGE, json={"prompt": script(answer, step=step)})).json()
        stored = (await service.ours.get("/chat/get/messages/", params={"limit": 2})).json()["messages"]
        assert text_of(events) == whole["response"] == answer
        assert [message["response"] for message in stored] == [answer, answer]


async def test_a_character_is_never_cut_in_two(service: Service) -> None:
    events = await stream(service.ours, script("中👨‍👩‍👧文🇨🇳a", rate=500))
    texts = [event["text"] for event in events[:-1]]
    clusters = [cluster for text in texts for cluster in regex.findall(r"\X", text)]
    assert clusters == ["中", "👨‍👩‍👧", "文", "🇨🇳", "a"]
    assert len(texts) > 1


async def test_an_answer_cut_by_max_tokens_ends_with_a_whole_character(service: Service) -> None:
    whole = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("好好好"), "max_tokens": 5})).json()
    assert (whole["response"], whole["finish_reason"]) == ("好", "length")
    assert whole["usage"]["completion_tokens"] == 5


async def test_what_callers_may_not_send_is_not_answered_either(service: Service) -> None:
    prompt = json.dumps({"hex": b"a\x1b[2Jb\x00\x7f\tc\r\n".hex()})
    streamed = text_of(await stream(service.ours, prompt))
    whole = (await service.ours.post(NEW_MESSAGE, json={"prompt": prompt})).json()
    assert streamed == whole["response"] == "a[2Jb\tc\r\n"
    again = await service.ours.post(NEW_MESSAGE, json={"prompt": script("fine"), "history": whole["history"]})
    assert again.json()["response"] == "fine"


async def test_a_stream_has_one_message_id_and_an_explicit_end(service: Service) -> None:
    events = await stream(service.ours, script("one two three"))
    assert len({event["message_id"] for event in events}) == 1
    assert set(events[0]) == {"text", "message_id"}
    last = events[-1]
    assert (last["text"], last["finish_reason"]) == ("", "stop")
    assert last["usage"]["completion_tokens"] == len("one two three") + 1
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]


async def test_a_stream_is_sent_as_event_streams_are(service: Service) -> None:
    body = {"prompt": script("好"), "stream": True}
    async with service.ours.stream("POST", NEW_MESSAGE, json=body) as response:
        raw = (await response.aread()).decode()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-store"
    assert raw.startswith('data: {"text":"好","message_id":"')


async def test_a_whole_answer_has_the_fields_of_the_contract(service: Service) -> None:
    answer = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("hello"), "user": "ann"})).json()
    assert answer["response"] == "hello"
    assert answer["history"] == [
        {"role": "user", "content": script("hello")},
        {"role": "assistant", "content": "hello"},
    ]
    assert answer["status"] == 200
    assert len(answer["message_id"]) == len(answer["conversation_id"]) == 32
    fields = "response history status time message_id conversation_id usage finish_reason dropped_turns"
    assert set(answer) == set(fields.split())


async def test_the_originals_client_posts_json_without_a_content_type(service: Service) -> None:
    body = json.dumps({"prompt": script("hello"), "max_tokens": 100, "temperature": 1, "top_p": 1})
    response = await service.ours.post(NEW_MESSAGE, content=body.encode())
    assert "content-type" not in response.request.headers
    assert response.json()["response"] == "hello"


async def test_the_path_works_without_its_slash(service: Service) -> None:
    response = await service.ours.post(NEW_MESSAGE.rstrip("/"), json={"prompt": script("hello")})
    assert response.json()["response"] == "hello"


async def test_a_client_that_accepts_events_alone_gets_the_answer_as_one(service: Service) -> None:
    accepting = {"Accept": "text/event-stream"}
    response = await service.ours.post(NEW_MESSAGE, json={"prompt": script("好的")}, headers=accepting)
    assert response.headers["content-type"].startswith("text/event-stream")
    event = json.loads(response.text.removeprefix("data: "))
    assert event["text"] == "好的"
    assert set(event) == {"text", "message_id"}


async def test_a_conversation_goes_on_where_it_was(service: Service) -> None:
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("one")})).json()
    body = {"prompt": script("two"), "conversation_id": first["conversation_id"]}
    second = (await service.ours.post(NEW_MESSAGE, json=body)).json()
    assert second["conversation_id"] == first["conversation_id"]
    assert second["history"] == [*first["history"], *second["history"][2:]]
    assert second["history"][-1]["content"] == "two"
    assert second["usage"]["prompt_tokens"] > first["usage"]["total_tokens"]


async def test_a_history_that_is_brought_along_begins_a_conversation(service: Service) -> None:
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("one"), "history": history})).json()
    assert first["history"][:3] == history
    body = {"prompt": script("two"), "conversation_id": first["conversation_id"]}
    second = (await service.ours.post(NEW_MESSAGE, json=body)).json()
    assert second["history"][:5] == first["history"]


async def test_a_conversation_that_outgrows_the_window_drops_its_oldest_turns_from_the_prompt(service: Service) -> None:
    body: dict[str, Any] = {"prompt": script("a" * 900), "max_tokens": 1000}
    answers = []
    for _ in range(10):
        answers.append((await service.ours.post(NEW_MESSAGE, json=body)).json())
        body["conversation_id"] = answers[-1]["conversation_id"]
    dropped = [answer["dropped_turns"] for answer in answers]
    assert dropped[0] == 0
    assert dropped[-1] > 0
    assert dropped == sorted(dropped)
    assert len(answers[-1]["history"]) == 20
    assert answers[-1]["usage"]["prompt_tokens"] + 1000 <= 8192


async def test_a_second_turn_of_a_running_conversation_is_refused(service: Service) -> None:
    first = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("one")})).json()
    same = {"conversation_id": first["conversation_id"]}
    slow = {"prompt": script("slow", pause=3600), "stream": True, **same}
    async with service.ours.stream("POST", NEW_MESSAGE, json=slow):
        second = await service.ours.post(NEW_MESSAGE, json={"prompt": script("two"), **same})
    assert second.status_code == 409
    assert second.json()["error"]["code"] == "conversation_locked"
    assert second.headers["retry-after"] == "1"


async def test_a_full_engine_refuses_before_a_row_is_written(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path, max_running=1, max_queued=0) as service:
        slow = {"prompt": script("slow", pause=3600), "stream": True}
        async with service.ours.stream("POST", NEW_MESSAGE, json=slow):
            refused = await service.theirs.post(NEW_MESSAGE, json={"prompt": script("two"), "stream": True})
            history = (await service.theirs.get("/chat/get/messages/")).json()["messages"]
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert history == []


async def test_a_generation_that_fails_says_so_and_keeps_what_came(service: Service) -> None:
    events = await stream(service.ours, script("abcdef", fail_after=3))
    assert text_of(events[:-1]) == "abc"
    assert events[-1]["error"]["code"] == "generation_failed"
    whole = await service.ours.post(NEW_MESSAGE, json={"prompt": script("abcdef", fail_after=3)})
    assert whole.status_code == 503
    assert set(whole.json()["error"]) == {"message", "type", "param", "code"}
    stored = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    assert [(one["status"], one["response"], one["completion_tokens"]) for one in stored] == [("failed", "abc", 3)] * 2


async def test_a_streaming_client_that_leaves_stops_its_turn(service: Service) -> None:
    async with service.ours.stream(
        "POST", NEW_MESSAGE, json={"prompt": script("a" * 500, rate=20), "stream": True}
    ) as response:
        await anext(response.aiter_lines())
    left = await settled(service)
    assert left["status"] == "cancelled"
    assert 1 <= left["completion_tokens"] < 500


async def test_a_waiting_client_that_leaves_stops_its_turn(service: Service) -> None:
    waiting = asyncio.create_task(service.ours.post(NEW_MESSAGE, json={"prompt": script("a" * 500, rate=20)}))
    async with asyncio.timeout(60):
        while not await history(service):
            pass
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    left = await settled(service)
    assert left["status"] == "cancelled"
    assert left["completion_tokens"] < 500


async def settled(service: Service) -> dict[str, Any]:
    """The only turn, once it has ended; checks that its text and tokens agree."""
    async with asyncio.timeout(60):
        while True:
            (message,) = await history(service)
            if message["status"] != "running":
                assert message["response"] == "a" * message["completion_tokens"]
                return message


async def history(service: Service) -> list[dict[str, Any]]:
    """Our turns."""
    messages: list[dict[str, Any]] = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    return messages
