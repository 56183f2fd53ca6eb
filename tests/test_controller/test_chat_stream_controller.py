"""Turns in the background: begun, listened to again and again, cancelled."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from database.engine import create_engine
from database.identifier import new_id
from database.models import Lease, TurnChunk
from database.repositories.turn_repository import TurnRepository
from database.session import Database
from tests.event_stream import Event, events, seen_all, text
from tests.service import NEW_MESSAGE, Service, running_service, script

SAID = "我是一个 👩‍👩‍👧 model, 你好吗？ " * 10


async def begin(service: Service, prompt: str = script(SAID), **body: Any) -> dict[str, Any]:
    response = await service.ours.post(NEW_MESSAGE, json={"prompt": prompt, "background": True, **body})
    assert response.status_code == 202, response.text
    begun: dict[str, Any] = response.json()
    return begun


async def listen(service: Service, begun: dict[str, Any], last: str | None = None) -> list[Event]:
    """What a browser hears that has no key and has seen the events up to `last`."""
    headers = {} if last is None else {"Last-Event-ID": last}
    response = await service.nobody.get(begun["stream_url"], headers=headers)
    assert response.status_code == 200, response.text
    return events(response.text)


async def chunks(service: Service, turn_id: str) -> str:
    async with service.database.begin(service.our_id) as session:
        rows = await session.scalars(select(TurnChunk).where(TurnChunk.turn_id == turn_id).order_by(TurnChunk.position))
        return "".join(row.text for row in rows)


async def entry(service: Service) -> dict[str, Any]:
    (found,) = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    return dict(found)


async def until_written(service: Service, turn_id: str) -> None:
    async with asyncio.timeout(60):
        while not await chunks(service, turn_id):
            pass


async def test_a_background_turn_is_answered_at_once_and_heard_without_a_key(service: Service) -> None:
    begun = await begin(service)
    assert begun.keys() == {"message_id", "conversation_id", "stream_url", "time"}
    assert begun["stream_url"].startswith(f"/chat/stream/{begun['message_id']}?token=")
    response = await service.nobody.get(begun["stream_url"])
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    heard = events(response.text)
    assert text(heard) == SAID
    assert heard[-1].data["finish_reason"] == "stop"
    assert {event.data["message_id"] for event in heard} == {begun["message_id"]}
    assert (await entry(service))["response"] == SAID


async def test_the_ids_of_events_are_offsets_in_code_points_and_bring_the_rest(sqlite_service: Service) -> None:
    begun = await begin(sqlite_service)
    heard = await listen(sqlite_service, begun)
    for at, event in enumerate(heard[:-1]):
        assert event.id == str(len(text(heard[: at + 1])))
    for offset in (0, 1, 6, len(SAID) - 1, len(SAID)):
        assert text(await listen(sqlite_service, begun, str(offset))) == SAID[offset:]
        by_query = await sqlite_service.ours.get(f"/chat/stream/{begun['message_id']}", params={"offset": offset})
        assert text(events(by_query.text)) == SAID[offset:]


async def test_after_the_last_event_there_is_no_content(sqlite_service: Service) -> None:
    begun = await begin(sqlite_service)
    heard = await listen(sqlite_service, begun)
    assert seen_all(heard)
    # The offset of the URL does not bring a browser back to the beginning.
    url = f"{begun['stream_url']}&offset=3"
    response = await sqlite_service.nobody.get(url, headers={"Last-Event-ID": str(heard[-1].id)})
    assert (response.status_code, response.content) == (204, b"")
    # Whoever has all of the text, but not the end, gets the end.
    (end,) = await listen(sqlite_service, begun, str(len(SAID)))
    assert end == heard[-1]


async def test_listeners_that_come_and_go_hear_everything_once(sqlite_service: Service) -> None:
    begun = await begin(sqlite_service, script(SAID, rate=400))
    heard: list[Event] = []
    cuts = 0
    while not seen_all(heard):
        headers = {"Last-Event-ID": str(heard[-1].id)} if heard else {}
        async with sqlite_service.nobody.stream("GET", begun["stream_url"], headers=headers) as response:
            assert response.status_code == 200
            lines: list[str] = []
            async for line in response.aiter_lines():
                lines.append(line)
                if not line and len(lines) > 12:
                    cuts += 1
                    break
        heard += events("\n".join(lines) + "\n")
    assert text(heard) == SAID
    assert cuts > 5


async def test_what_a_running_turn_has_said_is_written_and_forgotten_when_it_ends(service: Service) -> None:
    begun = await begin(service, script("word " * 20, rate=50))
    await until_written(service, begun["message_id"])
    assert text(await listen(service, begun)) == "word " * 20
    assert await chunks(service, begun["message_id"]) == ""


async def test_a_cancelled_turn_says_so_and_keeps_what_it_said(service: Service) -> None:
    begun = await begin(service, script("word ", repeat=200, rate=100))
    listening = asyncio.create_task(listen(service, begun))
    await until_written(service, begun["message_id"])
    stopped = await service.ours.delete(f"/chat/stream/{begun['message_id']}")
    assert stopped.json() == {"message_id": begun["message_id"], "status": "cancelled"}
    *said, end = await listening
    assert (end.data["error"]["code"], end.data["status"]) == ("turn_cancelled", "cancelled")
    assert (await entry(service))["response"] == text(said)
    # Again, it is as it was; and from its rows it reads the same.
    assert (await service.ours.delete(f"/chat/stream/{begun['message_id']}")).json() == stopped.json()
    again = await listen(service, begun)
    assert (text(again), again[-1]) == (text(said), end)


async def test_an_ordinary_turn_can_be_read_once_it_has_ended_and_be_cancelled_before(sqlite_service: Service) -> None:
    async with sqlite_service.ours.stream(
        "POST", NEW_MESSAGE, json={"prompt": script("word ", repeat=200, rate=100), "stream": True}
    ) as response:
        lines = response.aiter_lines()
        message_id = events(await anext(lines) + "\n\n")[0].data["message_id"]
        stopped = await sqlite_service.ours.delete(f"/chat/stream/{message_id}")
        assert stopped.json()["status"] == "cancelled"
        rest = events("\n".join([line async for line in lines]) + "\n")
    assert rest[-1].data["error"]["code"] == "turn_cancelled"
    read = events((await sqlite_service.ours.get(f"/chat/stream/{message_id}")).text)
    assert text(read) == (await entry(sqlite_service))["response"]


async def test_a_token_reads_its_own_message_and_nothing_else(sqlite_service: Service) -> None:
    begun, other = await begin(sqlite_service), await begin(sqlite_service, script("another"))
    token = urlsplit(begun["stream_url"]).query
    for method, path in (
        ("GET", f"/chat/stream/{other['message_id']}"),
        ("GET", f"/chat/stream/{new_id()}"),
        ("DELETE", f"/chat/stream/{begun['message_id']}"),
        ("GET", "/chat/get/messages/"),
        ("DELETE", f"/chat/messages/{begun['message_id']}"),
        ("POST", NEW_MESSAGE),
        ("GET", "/v1/models"),
    ):
        response = await sqlite_service.nobody.request(method, f"{path}?{token}")
        assert response.status_code == 401, (method, path)
    for broken in (token[:-1], token + "A", "token=", "token=é", token.replace(token[8:12], "AAAA", 1)):
        assert (await sqlite_service.nobody.get(f"/chat/stream/{begun['message_id']}?{broken}")).status_code == 401
    assert text(await listen(sqlite_service, begun)) == SAID


async def test_a_token_expires(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path, stream_url_seconds=1) as service:
        begun = await begin(service)
        async with asyncio.timeout(60):
            while (response := await service.nobody.get(begun["stream_url"])).status_code == 200:
                pass
        assert response.status_code == 401
        # The turn itself is there, for whoever has a key.
        assert (await service.ours.get(f"/chat/stream/{begun['message_id']}")).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stream": True}, None),
        ({"store": False}, "background"),
        ({"background": "yes"}, "background"),
    ],
)
async def test_what_cannot_run_in_the_background_is_refused(
    sqlite_service: Service, body: dict[str, Any], param: str | None
) -> None:
    response = await sqlite_service.ours.post(NEW_MESSAGE, json={"prompt": "hi", "background": True, **body})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert (await sqlite_service.ours.get("/chat/get/messages/")).json()["messages"] == []


@pytest.mark.parametrize("last", ["-1", "abc", "1-ende", "99999999999", "-end", "٣"])
async def test_an_event_id_that_never_was_is_refused(sqlite_service: Service, last: str) -> None:
    begun = await begin(sqlite_service)
    response = await sqlite_service.ours.get(
        f"/chat/stream/{begun['message_id']}", headers={b"Last-Event-ID": last.encode()}
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "Last-Event-ID"


async def test_a_query_that_means_nothing_is_refused(sqlite_service: Service) -> None:
    begun = await begin(sqlite_service)
    for query in ("offset=-1", "offset=x", "start=3"):
        response = await sqlite_service.nobody.get(f"{begun['stream_url']}&{query}")
        assert response.status_code == 400
    assert (await sqlite_service.nobody.request("GET", begun["stream_url"], json={"offset": 3})).status_code == 400
    assert (await sqlite_service.nobody.request("GET", begun["stream_url"], json={})).status_code == 200


async def test_a_turn_that_nobody_listens_to_is_cancelled_in_the_end(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path, unheard_seconds=1) as service:
        begun = await begin(service, script("word ", repeat=10_000, rate=60))
        # Heard for longer than that, and then no more.
        async with service.nobody.stream("GET", begun["stream_url"]) as response:
            async for line in response.aiter_lines():
                if line.startswith("id: 150"):
                    break
        assert (await entry(service))["status"] == "running"
        async with asyncio.timeout(60):
            while (await entry(service))["status"] == "running":
                pass
        assert (await entry(service))["status"] == "cancelled"


async def test_a_turn_heard_through_another_instance_runs_on(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path, unheard_seconds=1) as service:
        begun = await begin(service, script("word " * 60, rate=100))
        async with asyncio.timeout(60):
            while (await entry(service))["status"] == "running":
                async with service.database.begin_global() as session:
                    if (lease := await session.get(Lease, begun["message_id"])) is not None:
                        lease.heard_at = lease.expires_at
        assert (await entry(service))["status"] == "completed"


async def test_a_service_that_stops_lets_turns_that_nobody_hears_finish(database_url: str, tmp_path: Path) -> None:
    async with running_service(database_url, tmp_path) as service:
        begun = await begin(service, script("word " * 20, rate=100))
    database = Database(create_engine(database_url))
    async with database.begin(service.our_id) as session:
        found = await TurnRepository(session).with_response(begun["message_id"])
    await database.close()
    assert found is not None
    assert (found[0].status, found[1]) == ("completed", "word " * 20)
