"""The engine's client and server on a real socket: places, events, aborts, and either side's death."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.inference import engine_client
from services.inference.engine import Delta, End, EngineLimits, Event, GenerationRequest
from services.inference.engine_client import EngineClient
from services.inference.engine_refusal import CeilingReached, EngineOverloaded, EngineUnavailable
from services.inference.engine_server import EngineServer
from services.inference.occupancy import Occupancy
from services.inference.wire import Ready, frame
from tests.generations import heard

LIMITS = EngineLimits(model="steps", context_window=100, vocabulary=300, tokenizer="", max_running=1)


class SteppedCore:
    """A core that makes a token for everything that runs whenever the test says `step`."""

    limits = LIMITS

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.aborted: list[str] = []
        self._emit: Callable[[list[Event]], None] = print

    @property
    def occupancy(self) -> Occupancy:
        return Occupancy(running=len(self.running), waiting=3)

    def start(self, emit: Callable[[list[Event]], None]) -> None:
        self._emit = emit

    def submit(self, request: GenerationRequest) -> None:
        self.running[request.id] = 0

    def abort(self, request_id: str) -> None:
        self.running.pop(request_id, None)
        self.aborted.append(request_id)

    def close(self) -> None:
        self.running.clear()

    def step(self, *last: Event) -> None:
        for request_id in self.running:
            self.running[request_id] += 1
        self._emit([*(Delta(request_id, [count]) for request_id, count in self.running.items()), *last])
        for event in last:
            del self.running[event.id]


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[EngineClient]:
    client = EngineClient(path)
    running = asyncio.create_task(client.run())
    yield client
    running.cancel()
    await asyncio.wait({running})


async def until(condition: Callable[[], object]) -> None:
    """Give the loop to others until this holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def ready(client: EngineClient) -> None:
    async with asyncio.timeout(60):
        while not (await client.health()).ready:
            await asyncio.sleep(0)


def request(name: str) -> GenerationRequest:
    return GenerationRequest(id=name, tenant="t", prompt_ids=[1, 2], max_tokens=10)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[EngineClient, SteppedCore, EngineServer]]:
    server, core = EngineServer(max_queued=1), SteppedCore()
    await server.listen(tmp_path / "engine.sock")
    server.serve(core)
    async with connected(tmp_path / "engine.sock") as client:
        await ready(client)
        yield client, core, server
    await server.close()


Served = tuple[EngineClient, SteppedCore, EngineServer]


async def test_events_arrive_in_order_and_end(served: Served) -> None:
    client, core, _ = served
    async with client.admit(request("a")) as place:
        assert core.running == {}
        events = heard(place)
        await until(lambda: core.running)
        core.step()
        core.step(End("a", "stop", 2, 0, 3))
        assert [await events.get() for _ in range(3)] == [Delta("a", [1]), Delta("a", [2]), End("a", "stop", 2, 0, 3)]
    assert core.aborted == []


async def test_leaving_the_place_aborts_before_the_second_step(served: Served) -> None:
    client, core, _ = served
    async with client.admit(request("a")) as place:
        events = heard(place)
        await until(lambda: core.running)
        core.step()
        await events.get()
    steps = 0
    async with asyncio.timeout(60):
        while core.running:
            core.step()
            steps += 1
            await asyncio.sleep(0.005)
    assert core.aborted == ["a"]
    assert steps <= 2


async def test_a_place_that_was_never_taken_up_is_free_again(served: Served) -> None:
    client, core, _ = served
    for number in range(5):
        async with client.admit(request(str(number))):
            pass
    async with client.admit(request("a")), client.admit(request("b")):
        pass
    assert core.aborted == []


async def test_more_than_the_places_are_refused_at_once(served: Served) -> None:
    client, _, _ = served
    async with client.admit(request("a")), client.admit(request("b")):
        with pytest.raises(EngineOverloaded) as refusal:
            async with client.admit(request("c")):
                pass
        assert 0 < refusal.value.retry_after <= 60
    async with client.admit(request("c")):
        pass


async def test_a_tenants_ceiling_is_one_for_all_processes_that_share_the_engine(tmp_path: Path) -> None:
    server = EngineServer(max_queued=20)
    await server.listen(tmp_path / "engine.sock")
    server.serve(SteppedCore())
    async with connected(server_path := tmp_path / "engine.sock") as one, connected(server_path) as two:
        await ready(one)
        await ready(two)
        async with AsyncExitStack() as places:
            for number, client in enumerate([one, two, one]):
                await places.enter_async_context(client.admit(replace(request(str(number)), max_places=3)))
            for client in (one, two):
                with pytest.raises(CeilingReached) as refusal:
                    await places.enter_async_context(client.admit(replace(request("more"), max_places=3)))
                assert 0 < refusal.value.retry_after <= 60
                other = replace(request(f"another tenant's {client is one}"), tenant="other")
                await places.enter_async_context(client.admit(other))
    await server.close()


async def test_a_running_id_is_not_admitted_twice(served: Served) -> None:
    client, _, _ = served
    async with client.admit(request("a")):
        other = EngineClient(client._path)
        running = asyncio.create_task(other.run())
        await ready(other)
        with pytest.raises(EngineOverloaded):
            async with other.admit(request("a")):
                pass
        running.cancel()
        await asyncio.wait({running})


async def test_a_client_that_dies_frees_its_places_and_stops_its_generations(served: Served) -> None:
    client, core, _ = served
    async with connected(client._path) as other:
        await ready(other)
        context = other.admit(request("a"))
        place = await context.__aenter__()
        heard(place)
        await until(lambda: core.running)
        async with other.admit(request("b")):
            assert other._link is not None
            other._link.close()
            await until(lambda: core.aborted)
    assert core.aborted == ["a"]
    async with client.admit(request("c")), client.admit(request("d")):
        pass


async def test_a_client_waits_for_a_server_that_loads_and_comes_back_to_one_that_restarts(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    async with connected(path) as client:
        for _ in range(2):
            server = EngineServer(max_queued=0)
            await server.listen(path)
            server.report(0.5, "loading weights")
            async with asyncio.timeout(60):
                while "50%" not in (await client.health()).detail:
                    await asyncio.sleep(0)
            with pytest.raises(EngineUnavailable):
                async with client.admit(request("a")):
                    pass
            server.serve(SteppedCore())
            await ready(client)
            await server.close()
            async with asyncio.timeout(60):
                while (await client.health()).ready:
                    await asyncio.sleep(0)


async def test_an_engine_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_client, "_ADMISSION_SECONDS", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(Ready(LIMITS)))
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_unix_server(silent, tmp_path / "engine.sock")
    async with connected(tmp_path / "engine.sock") as client:
        await ready(client)
        with pytest.raises(EngineUnavailable):
            async with client.admit(request("a")):
                pass
    server.close()


async def test_a_client_survives_whatever_a_server_says(tmp_path: Path) -> None:
    # The last is a message that is well formed but for its text, which is not UTF-8.
    sayings = [b"\x00\x00\x00\x01\xc0", b"\xff\xff\xff\xff", b"\x00\x00\x00\x10\x83\xa4type\xa7Loading\xa1\xff\x01"]

    async def babbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if sayings:
            writer.write(sayings.pop())
        else:
            writer.write(frame(Ready(LIMITS)))
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_unix_server(babbling, tmp_path / "engine.sock")
    async with connected(tmp_path / "engine.sock") as client:
        await ready(client)
        assert sayings == []
    server.close()


async def test_bytes_that_are_no_message_end_that_connection_alone(served: Served) -> None:
    client, _, _ = served
    for junk in (b"\x00\x00\x00\x05hello", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc0"):
        reader, writer = await asyncio.open_unix_connection(client._path)
        writer.write(junk)
        async with asyncio.timeout(60):
            while await reader.read(1000):
                pass
        writer.close()
    async with client.admit(request("a")):
        pass


async def test_more_than_the_tokens_are_refused_at_once(tmp_path: Path) -> None:
    server, core = EngineServer(max_queued=10, max_queued_tokens=30), SteppedCore()
    await server.listen(tmp_path / "engine.sock")
    server.serve(core)
    async with connected(tmp_path / "engine.sock") as client:
        await ready(client)
        async with client.admit(request("a")), client.admit(request("b")):
            with pytest.raises(EngineOverloaded):
                async with client.admit(request("c")):
                    pass
        async with client.admit(request("c")):
            pass
    await server.close()
