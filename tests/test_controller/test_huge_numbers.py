"""Numbers that no column, message or array could hold are refused wherever a number is taken."""

from typing import Any

import pytest

from schemas.limit_schema import LimitsWanted
from tests.openai_clients import CHAT, MODEL, asking
from tests.service import NEW_MESSAGE, Service

HUGE = 10**30
ASKED = asking("hi")
TEXTS = {"model": MODEL, "prompt": "hi"}
RESPONSE = {"model": MODEL, "input": "hi"}
BODIES: list[tuple[str, dict[str, Any]]] = [
    *[(CHAT, ASKED | {name: HUGE}) for name in ("seed", "n", "max_tokens", "top_logprobs", "temperature", "top_k")],
    (CHAT, ASKED | {"seed": -HUGE}),
    (CHAT, ASKED | {"logit_bias": {str(HUGE): 1}}),
    (CHAT, ASKED | {"logit_bias": {"1": HUGE}}),
    *[("/v1/completions", TEXTS | {name: HUGE}) for name in ("seed", "n", "max_tokens", "logprobs", "best_of")],
    ("/v1/completions", TEXTS | {"prompt": [HUGE]}),
    ("/v1/completions", TEXTS | {"prompt": [[-HUGE]]}),
    *[("/v1/responses", RESPONSE | {name: HUGE}) for name in ("max_output_tokens", "top_logprobs", "temperature")],
    ("/v1/detokenize", {"model": MODEL, "tokens": [HUGE]}),
    (NEW_MESSAGE, {"prompt": "hi", "max_tokens": HUGE}),
]


@pytest.mark.parametrize(("path", "body"), BODIES, ids=[f"{path} {at}" for at, (path, _) in enumerate(BODIES)])
async def test_in_a_body(sqlite_service: Service, path: str, body: dict[str, Any]) -> None:
    answer = await sqlite_service.ours.post(path, json=body)
    assert answer.status_code == 400, answer.text


async def test_in_a_query(service: Service) -> None:
    made = (await service.ours.post(NEW_MESSAGE, json={"prompt": "{}", "background": True})).json()
    response = (await service.ours.post("/v1/responses", json=RESPONSE)).json()
    for path, query in (
        ("/chat/get/messages/", {"limit": HUGE}),
        ("/chat/get/messages/", {"since": HUGE}),
        (f"/chat/stream/{made['message_id']}", {"offset": HUGE}),
        (f"/v1/responses/{response['id']}", {"stream": "true", "starting_after": HUGE}),
    ):
        answer = await service.ours.get(path, params={name: str(value) for name, value in query.items()})
        assert answer.status_code in {200, 204, 400, 404}, (path, answer.text)


async def test_in_a_limit(service: Service) -> None:
    for name in LimitsWanted.model_fields:
        answer = await service.admin.post(f"/admin/v1/tenants/{service.our_id}/limits", json={name: HUGE})
        assert answer.status_code == 400, (name, answer.text)
        assert answer.json()["error"]["param"] == name
