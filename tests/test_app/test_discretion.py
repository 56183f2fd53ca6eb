"""Nothing that the service writes about itself tells a key, a token or what was said, at any level of detail."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2

from tests.openai_clients import CHAT, asking
from tests.process import KEY, ServiceProcess, environment, run_module, script, started_service
from tests.service import NEW_MESSAGE
from tests.test_controller.test_routes import IDS, routes

SECRET = "marked-service-secret-of-forty-characters"
METRICS = "marked-token of the metrics, long enough"
SAID, ANSWERED, LABEL, USER = "marked-prompt", "marked-answer", "marked-label", "marked-user"
WRONG = "marked-wrong-key-of-forty-characters-or-so"
CALLED = "marked-function"
FUNCTION = {
    "name": CALLED,
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
}
HEADERS = {"Idempotency-Key": "marked-idempotency", "Cookie": "marked-cookie=1", "x-other": "marked-header"}
QUERY = {"q": "marked-query", "user": USER, "token": "marked-token", "other": "marked-parameter"}


def bodies() -> list[dict[str, Any]]:
    """Those that some route answers, and that all others refuse."""
    prompt = script(ANSWERED) + SAID
    asked = asking(prompt, metadata={"a": LABEL}, user=USER, store=True)
    return [
        {"prompt": prompt, "user": USER},
        {"prompt": prompt, "stream": True},
        asked,
        asked | {"stream": True, "tools": [{"marked-tool": SAID}]},
        {"model": "scripted", "input": prompt, "instructions": SAID, "metadata": {"a": LABEL}},
        {"name": "marked-name", "metadata": {LABEL: LABEL}},
        {"prompt": {"marked-key": SAID}},
    ]


def requests(method: str) -> list[dict[str, Any]]:
    """What a route is sent, one thing at a time: together they would all be refused for the first of them."""
    sent: list[dict[str, Any]] = [{"params": {name: value}} for name, value in QUERY.items()]
    if method in {"POST", "PATCH", "PUT"}:
        sent += [{"json": body} for body in bodies()] + [{"content": f'{{"prompt": "{SAID}'.encode()}]
    return sent


def drive(service: ServiceProcess, administrator: str, ids: dict[str, str]) -> list[str]:
    """Send all that to every route; the answers that are errors."""
    errors: list[str] = []
    with httpx2.Client(base_url=service.url, timeout=30) as client:
        # What erases comes last.
        for method, path in sorted(routes(), key=lambda route: route[0] == "DELETE"):
            key = administrator if path.startswith("/admin") else KEY
            for caller, sent in [(WRONG, {}), *((key, sent) for sent in requests(method))]:
                headers = HEADERS | {"Authorization": f"Bearer {caller}"}
                headers["Idempotency-Key"] += str(len(errors))
                answer = client.request(method, path.format(**ids), headers=headers, **sent)
                assert answer.status_code not in {500, 503}, (method, path, sent, answer.text)
                errors += [answer.text] if answer.status_code >= 400 else []
    return errors


def test_logs_and_errors_tell_no_secret_and_nothing_that_was_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = {"log_level": "debug", "metrics_token": METRICS}
    env = environment(tmp_path, bootstrap_api_key=KEY, secret=SECRET, scripted_rate=100_000, **settings)
    with started_service(env, log) as service:
        made = service.client.post(NEW_MESSAGE, json={"prompt": script(ANSWERED), "background": True}).json()
        stored = service.client.post(CHAT, json=asking(script(ANSWERED) + SAID, store=True)).json()
        token = made["stream_url"].partition("token=")[2]
        assert service.client.get(made["stream_url"], headers={"Authorization": ""}).status_code == 200
        ids = dict.fromkeys(IDS, "0" * 32) | {
            "message_id": made["message_id"],
            "conversation_id": made["conversation_id"],
            "completion_id": stored["id"],
        }
        made_for = run_module("tools.admin", "key", "create", "--admin", "--json", env=env).stdout
        administrator = json.loads(made_for)[0]["key"]
        errors = drive(service, administrator, ids)
        asked = asking(script(f'{CALLED}\n{{"b": 1}}'), tools=[{"type": "function", "function": FUNCTION}])
        wrong = service.client.post(CHAT, json=asked)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (500, "generation_failed")
        # An engine that dies with a prompt, and one that fails on it.
        for fault in ("crash_after", "fail_after"):
            service.wait_until_ready()
            service.client.post(NEW_MESSAGE, json={"prompt": script(SAID, **{fault: 1})})
        metrics = service.client.get("/metrics", headers={"Authorization": f"Bearer {METRICS}"}).text
        service.process.terminate()
        assert service.process.wait(60) == 0
    written = log.read_text() + metrics
    assert "chatglm:refusals_total" in metrics
    assert METRICS not in written
    assert "POST" in written, "the log has something to tell at all"
    assert len(errors) > 100
    for told in (written, *errors):
        assert KEY not in told
        assert administrator not in told
        assert token not in told
        assert not re.search(r"marked-(?!name|tool|key|other)", told), re.findall(r".*marked-.*", told)[:5]
