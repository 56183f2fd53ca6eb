"""`/admin/v1/audit`: every change over HTTP is there, with who made it."""

from tests.service import NEW_MESSAGE, Service, script
from tests.test_controller.test_admin_tenant_controller import TENANTS

AUDIT = "/admin/v1/audit"


async def test_a_change_is_listed_with_the_key_and_the_request_that_made_it(service: Service) -> None:
    made = await service.admin.post(TENANTS, json={"name": "new"})
    (event,) = (await service.admin.get(AUDIT, params={"tenant_id": made.json()["id"]})).json()["data"]
    (own,) = [one for one in (await service.admin.get(TENANTS)).json()["data"] if one["administers"]]
    (key,) = (await service.admin.get(f"{TENANTS}/{own['id']}/keys")).json()["data"]
    assert event == {
        "id": event["id"],
        "object": "audit_event",
        "created_at": event["created_at"],
        "actor": {"type": "api_key", "id": key["id"]},
        "action": "tenant.create",
        "tenant_id": made.json()["id"],
        "target_id": made.json()["id"],
        "before": None,
        "after": event["after"],
        "request_id": made.headers["x-request-id"],
    }
    assert event["after"]["name"] == "new"


async def test_a_tenants_own_erasures_are_audited_too(service: Service) -> None:
    said = (await service.ours.post(NEW_MESSAGE, json={"prompt": script("secret"), "user": "ann"})).json()
    conversation = await service.ours.delete(f"/chat/conversations/{said['conversation_id']}")
    await service.ours.post(NEW_MESSAGE, json={"prompt": script("secret"), "user": "ann"})
    user = await service.ours.delete("/chat/users", params={"user": "ann"})
    page = (await service.admin.get(AUDIT, params={"tenant_id": service.our_id, "limit": 4})).json()
    assert [(event["action"], event["after"]) for event in page["data"]] == [
        ("user.erased", user.json()["rows"]),
        # There might have been more: another transaction looked.
        ("user.erase", user.json()["rows"]),
        ("conversation.erased", conversation.json()["rows"]),
        ("conversation.erase", None),
    ]
    assert "ann" not in str(page)
    assert page["has_more"]
    rest = (await service.admin.get(AUDIT, params={"tenant_id": service.our_id, "after": page["last_id"]})).json()
    assert [event["action"] for event in rest["data"]] == ["key.create", "tenant.create"]


async def test_every_answer_names_its_request(service: Service) -> None:
    answers = [await caller.get("/chat/get/messages/") for caller in (service.ours, service.nobody, service.admin)]
    assert [answer.status_code for answer in answers] == [200, 401, 403]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
