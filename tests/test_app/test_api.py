"""The API's process, seen from inside."""

import gc

import uvicorn
from fastapi import FastAPI

from app.api import _Server
from services.shutdown import Shutdown


def never() -> Shutdown:
    raise AssertionError("nothing is stopped here")


async def test_what_the_start_left_is_not_looked_through_with_every_crowd() -> None:
    thresholds = gc.get_threshold()
    server = _Server(uvicorn.Config(FastAPI(), port=0, lifespan="off", log_config=None), never)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    try:
        await server.startup()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[0] >= 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        for listening in server.servers:
            listening.close()
            await listening.wait_closed()
