"""A browser's EventSource: cut twenty times in one answer, and once the service itself is restarted."""

import asyncio
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process import KEY, ServiceProcess, environment, messages, script, started_service
from tests.test_clients.cutting_proxy import CuttingProxy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_SAID = "我是 👩‍👩‍👧 a model. " * 25
_CUTS = 20


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; on Debian: apt-get install chromium")
@pytest.mark.timeout(240)
async def test_a_page_has_the_whole_text_after_twenty_cuts_and_a_restart(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", bootstrap_api_key=KEY, shutdown_seconds=60)
    with ExitStack() as services:
        service = services.enter_context(started_service(env, tmp_path / "log"))
        body = {"prompt": script(_SAID, rate=len(_SAID.encode()) / 20), "background": True}
        begun = service.client.post("/chat/new/message/", json=body).json()
        proxy = CuttingProxy(int(env["CHATGLM_PORT"]))
        async with proxy.listening() as url:
            browser = await asyncio.create_subprocess_exec(
                *browsing(tmp_path, f"{url}/page?stream=", begun["stream_url"])
            )
            try:
                while proxy.cuts < _CUTS:
                    proxy.cut.clear()
                    await asyncio.wait_for(proxy.cut.wait(), 60)
                assert [entry["status"] for entry in messages(service.client)] == ["running"]
                await asyncio.to_thread(stop, service)
                service = await asyncio.to_thread(services.enter_context, started_service(env, tmp_path / "log"))
                assert await asyncio.wait_for(proxy.done, 60) == _SAID
            finally:
                browser.kill()
                await browser.wait()
        assert set(proxy.statuses[:-1]) == {200}
        assert proxy.statuses[-1] == 204
        (entry,) = messages(service.client)
        assert (entry["status"], entry["response"]) == ("completed", _SAID)


def browsing(directory: Path, page: str, stream: str) -> list[str]:
    assert CHROMIUM is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    # It calls nobody but the page.
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    quoted = stream.replace("?", "%3F").replace("=", "%3D")
    return [CHROMIUM, *options, *quiet, f"--user-data-dir={directory / 'browser'}", page + quoted]


def stop(service: ServiceProcess) -> None:
    """As whoever upgrades it does; the answer that runs is finished before."""
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(100)
