"""The open routes."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from database.session import Database
from services.inference.engine import EngineLimits
from services.inference.engine_server import EngineServer
from services.inference.scripted import ScriptedCore
from tests.service import Service, running_engine, running_service


async def test_the_first_page_says_what_this_is_and_where_to_look(service: Service) -> None:
    page = (await service.nobody.get("/")).json()
    assert "ChatGLM API" in page["message"]
    assert page["model"] == "scripted"
    assert page["notice"] is None
    for link in ("docs", "health", "ready"):
        assert (await service.nobody.get(page[link])).status_code == 200


async def test_behind_a_proxy_the_links_carry_its_prefix(migrated_sqlite: Path, tmp_path: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    async with running_service(f"sqlite:///{tmp_path / 'chatglm.db'}", tmp_path, root_path="/llm") as service:
        page = (await service.nobody.get("/")).json()
        assert (page["docs"], page["ready"]) == ("/llm/docs", "/llm/readyz")
        assert (await service.nobody.get("/openapi.json")).json()["servers"] == [{"url": "/llm"}]
        answer = await service.ours.post("/chat/new/message/", json={"prompt": "hi"})
        assert answer.json()["response"] == "You said: hi"


async def test_readiness_follows_the_engine_and_liveness_does_not(migrated_sqlite: Path, tmp_path: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    async with running_service(f"sqlite:///{tmp_path / 'chatglm.db'}", tmp_path) as service:
        server = service.engine_server
        await server.close()
        assert await eventually(service.nobody, 503) == "engine_unavailable"
        assert (await service.nobody.get("/healthz")).json() == {"status": "ok"}
        refused = await service.ours.post("/chat/new/message/", json={"prompt": "hi"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_unavailable")
        assert refused.headers["retry-after"]
        async with running_engine(tmp_path / "engine.sock"):
            assert await eventually(service.nobody, 200) == "ready"


async def test_readiness_and_turns_follow_the_clock(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = timedelta(0)

    async def skew(_database: Database) -> timedelta:
        return off

    monkeypatch.setattr("services.recovery_service.clock_skew", skew)
    # It looks so often in the length of a lease.
    monkeypatch.setattr("services.recovery_service._ROUNDS", 1000)
    shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    async with running_service(f"sqlite:///{tmp_path / 'chatglm.db'}", tmp_path) as service:
        # Not before: it would perhaps never be ready.
        off = timedelta(hours=1)
        assert await eventually(service.nobody, 503) == "clock_wrong"
        refused = await service.ours.post("/chat/new/message/", json={"prompt": "hi"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "clock_wrong")
        assert refused.headers["retry-after"] == "10"
        off = timedelta(0)
        assert await eventually(service.nobody, 200) == "ready"
        assert (await service.ours.post("/chat/new/message/", json={"prompt": "hi"})).status_code == 200


async def test_readiness_says_how_far_the_loading_is(migrated_sqlite: Path, tmp_path: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    async with running_service(f"sqlite:///{tmp_path / 'chatglm.db'}", tmp_path) as service:
        await service.engine_server.close()
        loading = EngineServer(max_queued=0)
        await loading.listen(tmp_path / "engine.sock")
        loading.report(0.25, "loading weights")
        async with asyncio.timeout(60):
            while "25%" not in (await service.nobody.get("/readyz")).json()["detail"]:
                pass
        await loading.close()


async def test_the_demo_model_is_called_a_demo(migrated_sqlite: Path, tmp_path: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    async with running_service(f"sqlite:///{tmp_path / 'chatglm.db'}", tmp_path) as service:
        await service.engine_server.close()
        core = ScriptedCore()
        core._limits = EngineLimits(model="a/demo", context_window=99, vocabulary=260, tokenizer="", demo=True)
        server = EngineServer(max_queued=0)
        await server.listen(tmp_path / "engine.sock")
        server.serve(core)
        await eventually(service.nobody, 503)
        await eventually(service.nobody, 200)
        page = (await service.nobody.get("/")).json()
        assert page["model"] == "demo"
        assert "demo model" in page["notice"]
        await server.close()


async def eventually(client: httpx2.AsyncClient, status: int) -> str:
    """What /readyz says once it answers so."""
    async with asyncio.timeout(60):
        while (response := await client.get("/readyz")).status_code != status:
            pass
    return str(response.json()["status"])
