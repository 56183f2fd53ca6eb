"""The page that describes the API works without a network, below any path, and runs nobody else's scripts."""

import re

from tests.service import Service


async def test_the_page_loads_only_what_this_service_has(sqlite_service: Service) -> None:
    page = await sqlite_service.nobody.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page.text)
    assert len(loaded) == 3
    for name in loaded:
        assert re.fullmatch(r"docs/[\w.-]+", name), "relative, or it would be missing behind a proxy's prefix"
        asset = await sqlite_service.nobody.get(f"/{name}")
        assert asset.status_code == 200
        assert asset.headers["content-type"].startswith("text/css" if name.endswith("css") else "text/javascript")
    assert 'url: "openapi.json"' in (await sqlite_service.nobody.get("/docs/start.js")).text
    assert (await sqlite_service.nobody.get("/docs/../settings.py")).status_code == 404
    assert (await sqlite_service.nobody.get("/docs/other.js")).status_code == 400


async def test_the_pages_policy_lets_no_script_run_that_is_written_into_it(sqlite_service: Service) -> None:
    page = await sqlite_service.nobody.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert "<script>" not in page.text


async def test_every_answer_has_the_security_headers_and_names_no_server(sqlite_service: Service) -> None:
    service = sqlite_service
    answers = [
        await service.nobody.get("/"),
        await service.nobody.get("/docs"),
        await service.nobody.get("/nonsense"),
        await service.nobody.get("/chat/get/messages/"),
        await service.ours.get("/chat/get/messages/"),
        await service.ours.post("/chat/new/message/", json={"prompt": "{}", "stream": True}),
        await service.ours.post("/chat/new/message/", json={"prompt": "{}", "background": True}),
        await service.ours.post("/chat/new/message/", content=b"x" * 5_000_000),
    ]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 202, 401, 404, 413]
    for answer in answers:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
