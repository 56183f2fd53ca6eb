"""An engine that was lost twice in a row, as those meet it who ask again."""

import asyncio

from tests.service import NEW_MESSAGE, Service, script

ROUTE = "/v1/completions"


async def _lose(service: Service) -> None:
    """Cut its connections; when this returns, it is there again."""
    for connection in list(service.engine_server._connections):
        connection.writer.transport.abort()
    async with asyncio.timeout(60):
        for status in (503, 200):
            while (await service.nobody.get("/readyz")).status_code != status:
                pass


async def test_a_list_of_prompts_is_tried_as_one_request_with_nobody_beside_it(sqlite_service: Service) -> None:
    slow = script("at last", pause=3600)
    for _ in range(2):
        await _lose(sqlite_service)
    trial = asyncio.create_task(sqlite_service.ours.post(ROUTE, json={"model": "scripted", "prompt": [slow] * 3}))
    async with asyncio.timeout(60):
        while len((await sqlite_service.ours.get("/chat/get/messages/")).json()["messages"]) < 3:
            assert not trial.done(), (await trial).text
    for path, body in ((ROUTE, {"model": "scripted", "prompt": ["one", "two"]}), (NEW_MESSAGE, {"prompt": "hi"})):
        refused = await sqlite_service.ours.post(path, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_unavailable")
    sqlite_service.hurry()
    assert (await trial).status_code == 200
    assert (await sqlite_service.ours.post(NEW_MESSAGE, json={"prompt": "hi"})).status_code == 200
