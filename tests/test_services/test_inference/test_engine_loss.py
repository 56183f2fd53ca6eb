"""An engine that is lost, as those meet it whose answers it was making, and when they are told to come back."""

import pytest

from services.inference.engine import Failed
from services.inference.engine_refusal import EngineUnavailable
from tests.generations import heard
from tests.test_services.test_inference.test_engine_client import LIMITS, Served, request, served, until

__all__ = ["served"]


async def test_a_server_that_dies_fails_what_runs_and_refuses_what_comes(served: Served) -> None:
    client, core, server = served
    async with client.admit(request("a")) as place:
        events = heard(place)
        await until(lambda: core.running)
        core.step()
        await events.get()
        client._breaker._last_absence = 30
        await server.close()
        failed = await events.get()
        assert isinstance(failed, Failed)
        assert (failed.kind, failed.retryable) == ("engine_lost", True)
        assert 25 < (failed.retry_after or 0) <= 30
    assert not (await client.health()).ready
    assert client.losses == 1
    with pytest.raises(EngineUnavailable):
        async with client.admit(request("b")):
            pass
    assert client.limits.model == LIMITS.model


async def test_an_engine_that_gives_itself_up_is_lost_before_it_is_gone(served: Served) -> None:
    client, core, _ = served
    client._breaker._last_absence = 30
    async with client.admit(request("a")) as place:
        events = heard(place)
        await until(lambda: core.running)
        core.step(Failed("a", "engine_lost", "The device is gone.", retryable=True))
        await events.get()
        failed = await events.get()
        assert isinstance(failed, Failed)
        assert failed.message == "The device is gone."
        assert 25 < (failed.retry_after or 0) <= 30
    with pytest.raises(EngineUnavailable):
        async with client.admit(request("b")):
            pass
    # It has stayed all the same, and is found anew.
    await until(lambda: client.losses == 1)
    await until(lambda: client.is_ready)
