"""Signs of life between the engine's process and the API's, and what becomes of turns without them."""

import asyncio
from pathlib import Path

from services.inference.engine import Failed
from services.inference.engine_client import EngineClient
from services.inference.engine_server import EngineServer
from services.inference.occupancy import Occupancy
from services.inference.wire import Admitted, Alive, Ready, frame, receive_from_server
from tests.generations import all_heard
from tests.test_services.test_inference.test_engine_client import LIMITS, SteppedCore, ready, request


async def test_an_engine_that_falls_silent_counts_as_lost(tmp_path: Path) -> None:
    async def falls_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(Ready(LIMITS)))
        await reader.read(1000)
        writer.write(frame(Admitted("a")))
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_unix_server(falls_silent, tmp_path / "engine.sock")
    client = EngineClient(tmp_path / "engine.sock", silence=0.2)
    running = asyncio.create_task(client.run())
    await ready(client)
    async with asyncio.timeout(60), client.admit(request("a")) as place:
        (failed,) = await all_heard(place)
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.retryable) == ("engine_lost", True)
    running.cancel()
    await asyncio.wait({running})
    server.close()


async def test_an_engine_that_has_nothing_to_do_says_that_it_lives(tmp_path: Path) -> None:
    server = EngineServer(max_queued=1)
    await server.listen(tmp_path / "engine.sock")
    server.serve(SteppedCore())
    reader, writer = await asyncio.open_unix_connection(tmp_path / "engine.sock")
    async with asyncio.timeout(60):
        assert isinstance(await receive_from_server(reader), Ready)
        assert [await receive_from_server(reader) for _ in range(2)] == [Alive(Occupancy(waiting=3))] * 2
    writer.close()
    await server.close()
