"""`/chat/get/messages/` and what erases."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.service import NEW_MESSAGE, Service, running_service, script

HISTORY = "/chat/get/messages/"


async def ask(service: Service, say: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = (await service.ours.post(NEW_MESSAGE, json={"prompt": script(say), **body})).json()
    return answer


async def page(service: Service, **params: Any) -> dict[str, Any]:
    response = await service.ours.get(HISTORY, params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_an_entry_has_the_fields_of_the_contract(service: Service) -> None:
    answer = await ask(service, "你好", user="ann")
    (entry,) = (await page(service))["messages"]
    assert entry == {
        "message_id": answer["message_id"],
        "conversation_id": answer["conversation_id"],
        "prompt": script("你好"),
        "response": "你好",
        "model": "scripted",
        "status": "completed",
        "time": answer["time"],
        "created_at": entry["created_at"],
        "finish_reason": "stop",
        "prompt_tokens": answer["usage"]["prompt_tokens"],
        "completion_tokens": 7,
    }
    created = datetime.fromisoformat(entry["created_at"])
    assert created.utcoffset() == timedelta(0)
    assert datetime.now(UTC) - created < timedelta(minutes=1)
    assert datetime.strptime(entry["time"], "%Y-%m-%d %H:%M:%S").astimezone(UTC) == created.replace(microsecond=0)


async def test_pages_follow_each_other_without_gap_or_overlap(service: Service) -> None:
    asked = [(await ask(service, str(number)))["message_id"] for number in range(7)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        found = await page(service, limit=3, **cursor)
        seen += [message["message_id"] for message in found["messages"]]
        assert found["has_more"] == (found["next"] is not None)
        if not found["has_more"]:
            break
        cursor = {"after": found["next"]}
    assert seen == asked[::-1]


async def test_every_filter_filters(service: Service) -> None:
    first = await ask(service, "one", user="ann")
    second = await ask(service, "two", user="bob")
    await service.ours.post(NEW_MESSAGE, json={"prompt": script("", fail_after=0), "user": "eve"})
    failed, *_ = (await page(service))["messages"]
    made = await service.keys.page(service.our_id, None, 1)
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"user": "ann"}, [first["message_id"]]),
        ({"conversation_id": second["conversation_id"]}, [second["message_id"]]),
        ({"status": "failed"}, [failed["message_id"]]),
        ({"status": "completed"}, [second["message_id"], first["message_id"]]),
        ({"q": "TWO"}, [second["message_id"]]),
        ({"key": made[0].id}, [failed["message_id"], second["message_id"], first["message_id"]]),
        ({"key": "0" * 32}, []),
        ({"user": "ann", "q": "two"}, []),
    ]
    for params, expected in cases:
        assert [message["message_id"] for message in (await page(service, **params))["messages"]] == expected, params


async def test_a_time_without_an_offset_is_in_the_services_zone(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path, timezone="Asia/Shanghai") as service:
        answer = await ask(service, "one")
        (entry,) = (await page(service))["messages"]
        local = datetime.fromisoformat(entry["created_at"]).astimezone(timezone(timedelta(hours=8)))
        assert entry["time"] == answer["time"] == local.strftime("%Y-%m-%d %H:%M:%S")
        hour = timedelta(hours=1)
        for since, until, found in ((local - hour, local + hour, 1), (local + hour, None, 0), (None, local - hour, 0)):
            params = {"since": since, "until": until}
            naive = {name: at.replace(tzinfo=None).isoformat() for name, at in params.items() if at is not None}
            exact = {name: at.isoformat() for name, at in params.items() if at is not None}
            assert len((await page(service, **naive))["messages"]) == found
            assert len((await page(service, **exact))["messages"]) == found


BAD_QUERIES = [
    ("limit", {"limit": "0"}),
    ("limit", {"limit": "101"}),
    ("limit", {"limit": "many"}),
    ("after", {"after": "nonsense"}),
    ("since", {"since": "yesterday"}),
    ("status", {"status": "asleep"}),
    ("conversation_id", {"conversation_id": "'; DROP TABLE turns"}),
    ("q", {"q": ""}),
    ("q", {"q": "\x00"}),
    ("offset", {"offset": "5"}),
]


async def test_a_bad_filter_is_named(service: Service) -> None:
    for param, query in BAD_QUERIES:
        response = await service.ours.get(HISTORY, params=query)
        assert response.status_code == 400, query
        assert response.json()["error"]["param"] == param, query


async def test_times_at_the_ends_of_the_calendar_do_no_harm(service: Service) -> None:
    await ask(service, "one")
    assert (await page(service, since="0001-01-02T00:00:00+00:00", until="9999-12-30T00:00:00Z"))["messages"]
    for since in ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59-12:00"):
        response = await service.ours.get(HISTORY, params={"since": since})
        assert response.status_code in {200, 400}, response.text


async def test_an_erased_message_is_gone_from_the_log_and_from_its_conversation(service: Service) -> None:
    first = await ask(service, "one")
    second = await ask(service, "two", conversation_id=first["conversation_id"])
    erased = await service.ours.delete(f"/chat/messages/{first['message_id']}")
    assert erased.json() == {"id": first["message_id"], "deleted": True}
    assert [one["message_id"] for one in (await page(service))["messages"]] == [second["message_id"]]
    third = await ask(service, "three", conversation_id=first["conversation_id"])
    assert [one["content"] for one in third["history"]] == [script("two"), "two", script("three"), "three"]
    assert (await service.ours.delete(f"/chat/messages/{first['message_id']}")).status_code == 404


async def test_an_erased_conversation_is_gone_with_all_its_messages(service: Service) -> None:
    first = await ask(service, "one")
    other = await ask(service, "other")
    await ask(service, "two", conversation_id=first["conversation_id"])
    url = f"/chat/conversations/{first['conversation_id']}"
    rows = {"conversations": 1, "turns": 2, "turn_texts": 2, "items": 4}
    assert (await service.ours.delete(url)).json() == {"id": first["conversation_id"], "deleted": True, "rows": rows}
    assert [one["message_id"] for one in (await page(service))["messages"]] == [other["message_id"]]
    assert (await service.ours.delete(url)).status_code == 404


async def test_what_runs_cannot_be_erased(service: Service) -> None:
    body = {"prompt": script("slow", pause=3600), "stream": True}
    async with service.ours.stream("POST", NEW_MESSAGE, json=body):
        (running,) = (await page(service))["messages"]
        assert running["status"] == "running"
        message = await service.ours.delete(f"/chat/messages/{running['message_id']}")
        conversation = await service.ours.delete(f"/chat/conversations/{running['conversation_id']}")
    assert (message.status_code, message.json()["error"]["code"]) == (409, "turn_running")
    assert (conversation.status_code, conversation.json()["error"]["code"]) == (409, "conversation_locked")
