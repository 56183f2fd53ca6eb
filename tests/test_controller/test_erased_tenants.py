"""Keys of an erased tenant, while they are still remembered."""

from typing import Any

import pytest

from services import authentication_service
from tests.openai_clients import CHAT, MODEL, asking
from tests.service import NEW_MESSAGE, Service, script


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (NEW_MESSAGE, {"prompt": script("a")}),
        (NEW_MESSAGE, {"prompt": script("a"), "background": True}),
        (CHAT, asking(script("a"), stream=True)),
        ("/v1/responses", {"model": MODEL, "input": script("a")}),
        ("/v1/responses", {"model": MODEL, "input": script("a"), "store": False}),
        ("/v1/completions", {"model": MODEL, "prompt": ["a", "b"]}),
        ("/v1/conversations", {}),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "a-key"}], ids=["once", "with an idempotency key"])
async def test_a_key_of_an_erased_tenant_is_answered_as_one_that_never_was(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    url: str,
    body: dict[str, Any],
    headers: dict[str, str],
) -> None:
    # However slow the machine, or this would test nothing.
    monkeypatch.setattr(authentication_service, "REMEMBERED_SECONDS", 600)
    assert (await service.ours.get("/v1/models")).status_code == 200
    tenant = f"/admin/v1/tenants/{service.our_id}"
    assert (await service.admin.post(f"{tenant}/suspend")).status_code == 200
    assert (await service.admin.delete(tenant)).status_code == 200
    assert (await service.ours.get("/v1/models")).status_code == 200
    caplog.clear()
    refused = await service.ours.post(url, json=body, headers=headers)
    unknown = await service.nobody.post(url, json=body, headers=headers | {"x-api-key": "sk-chatglm-" + "0" * 46})
    assert (refused.status_code, refused.content) == (401, unknown.content)
    assert refused.headers["www-authenticate"] == unknown.headers["www-authenticate"]
    assert not [record for record in caplog.records if record.exc_info]
