"""What a client in another language needs to know: whom to call, with which keys, what to ask."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.limit_service import Limits, LimitService
from tests.openai_clients import MODEL, key_of
from tests.rows import TESTER
from tests.service import NEW_MESSAGE, Service, script

FOLDER = Path(__file__).parent
# An environment beside the service's, with packages that go with other versions of its own.
PYTHON = Path(sys.prefix) / "clients" / "bin" / "python"
NO_ENVIRONMENT = "the clients' own environment is not here: `make test` makes it"
TEXT = '你好 👩‍🚀, "hello"\n'
# As GLM-4 writes calls.
CALL = 'get_weather\n{"city": "北京"}'
PROMPTS = {
    "SAY": script(TEXT),
    "CALL": script(CALL),
    "SUNNY": script("Sunny."),
    "JSON": script('{"city": "Rome", "large": true}'),
    "BREAKING": script("hello", fail_after=3),
    "LONG": script("a", repeat=8000, rate=20),
}


@asynccontextmanager
async def surroundings(service: Service) -> AsyncIterator[dict[str, str]]:
    """Environment variables; meanwhile a turn of `CONVERSATION` runs."""
    keys, limits = service.keys, LimitService(service.database)
    powerless = await keys.create(TESTER, service.our_id, scopes=[])
    one_at_once = await keys.create(TESTER, service.our_id)
    used_up = await keys.create(TESTER, service.our_id)
    await limits.set(TESTER, service.our_id, Limits(turns_at_once=1), key_id=one_at_once.row.id)
    await limits.set(TESTER, service.our_id, Limits(tokens_per_month=5), key_id=used_up.row.id)
    begun = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("begun")})).json()
    running = {"prompt": PROMPTS["LONG"], "conversation_id": begun["conversation_id"], "stream": True}
    async with service.ours.stream("POST", NEW_MESSAGE, json=running) as response:
        assert response.status_code == 200
        yield {
            "SERVICE_URL": service.url,
            "MODEL": MODEL,
            "KEY": key_of(service),
            "POWERLESS_KEY": powerless.secret,
            "ONE_AT_ONCE_KEY": one_at_once.secret,
            "USED_UP_KEY": used_up.secret,
            "CONVERSATION": begun["conversation_id"],
            **PROMPTS,
        }


async def output_of(*command: str | Path, env: dict[str, str]) -> dict[str, Any]:
    """The JSON that a program prints."""
    pipe = asyncio.subprocess.PIPE
    # None of this machine's settings, but those by which programs are found; and where a machine names no language,
    # Java would take the prompts for ASCII.
    clean = {"LC_ALL": "C.UTF-8", **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}}
    process = await asyncio.create_subprocess_exec(*command, env=clean | env, stdout=pipe, stderr=pipe)
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    found: dict[str, Any] = json.loads(stdout)
    return found


async def statuses_of(service: Service, prompt: str) -> list[str]:
    """How our tenant's turns with this prompt ended, once they have."""
    while True:
        listed = await service.ours.get("/chat/get/messages/", params={"limit": 100})
        found = [entry for entry in listed.json()["messages"] if entry["prompt"] == prompt]
        # One that is known runs in the background.
        statuses = [entry["status"] for entry in found if entry["conversation_id"] is None]
        if "running" not in statuses:
            return statuses
