"""`/admin/v1`: limits are set and listed, usage is told of all tenants, and each change is audited."""

import csv
import io
from typing import Any

import pytest

from tests.service import NEW_MESSAGE, Service, client, script
from tests.test_controller.test_admin_tenant_controller import TENANTS

USAGE = "/admin/v1/usage"
NOTHING: dict[str, Any] = dict.fromkeys(
    ("requests_per_minute", "tokens_per_minute", "turns_at_once", "tokens_per_day", "tokens_per_month")
)
# The minute may be over before it is looked at.
_OF_MINUTE = ("requests_used_this_minute", "tokens_used_this_minute")
_OF_DAYS = ("tokens_used_this_day", "tokens_used_this_month")
UNUSED = dict.fromkeys((*_OF_MINUTE, *_OF_DAYS, "running"), 0)


async def test_limits_of_a_tenant_and_its_key_are_set_listed_audited_and_count_at_once(service: Service) -> None:
    url = f"{TENANTS}/{service.our_id}"
    (key,) = (await service.admin.get(f"{url}/keys")).json()["data"]
    whole = await service.admin.post(f"{url}/limits", json={"requests_per_minute": 2, "tokens_per_day": 10**6})
    of_key = await service.admin.post(f"{url}/keys/{key['id']}/limits", json={"requests_per_minute": 1})
    assert whole.json() == NOTHING | UNUSED | {
        "key": None, "keys": [], "requests_per_minute": 2, "tokens_per_day": 10**6
    }  # fmt: skip
    assert of_key.json() == NOTHING | UNUSED | {
        "key": key["id"], "keys": [key["id"]], "requests_per_minute": 1
    }  # fmt: skip
    answers = [await service.ours.post(NEW_MESSAGE, json={"prompt": script("hi")}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    used = dict.fromkeys(_OF_DAYS, answers[0].json()["usage"]["total_tokens"])
    listed = [row | dict.fromkeys(_OF_MINUTE, 0) for row in (await service.admin.get(f"{url}/limits")).json()["data"]]
    assert sorted(listed, key=lambda row: row["key"] or "") == [row.json() | used for row in (whole, of_key)]
    assert (await service.admin.get(f"{TENANTS}/{service.their_id}/limits")).json() == {"data": []}
    events = (await service.admin.get("/admin/v1/audit", params={"limit": 2})).json()["data"]
    assert [(event["action"], event["target_id"], event["after"]["requests_per_minute"]) for event in events] == [
        ("limit.set", key["id"], 1),
        ("limit.set", service.our_id, 2),
    ]


async def test_limits_of_a_rotation_are_shown_and_set_as_those_of_its_keys_together(service: Service) -> None:
    url = f"{TENANTS}/{service.our_id}"
    (old,) = (await service.admin.get(f"{url}/keys")).json()["data"]
    await service.admin.post(f"{url}/keys/{old['id']}/limits", json={"requests_per_minute": 1})
    new = (await service.admin.post(f"{url}/keys/{old['id']}/rotate", json={})).json()
    (listed,) = (await service.admin.get(f"{url}/limits")).json()["data"]
    assert (listed["key"], listed["keys"]) == (new["id"], [old["id"], new["id"]])
    async with client(service.url, new["key"]) as successor:
        statuses = [
            (await caller.post(NEW_MESSAGE, json={"prompt": script("hi")})).status_code
            for caller in (service.ours, successor)
        ]
    assert statuses == [200, 429]
    for number, key in enumerate((old, new), 5):
        changed = await service.admin.post(f"{url}/keys/{key['id']}/limits", json={"turns_at_once": number})
        assert (await service.admin.get(f"{url}/limits")).json()["data"] == [changed.json()]
        assert (changed.json()["key"], changed.json()["turns_at_once"]) == (new["id"], number)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_is_no_limit_is_named_and_sets_nothing(service: Service) -> None:
    url = f"{TENANTS}/{service.our_id}/limits"
    for body in ({"tokens_per_day": -1}, {"turns_at_once": 1.5}, {"tokens_per_month": 2**53 + 1}, {"per_second": 1}):
        response = await service.admin.post(url, json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(body)))
    assert (await service.admin.get(url)).json() == {"data": []}


async def test_usage_of_all_tenants_or_one_is_told_as_json_and_csv(service: Service) -> None:
    for caller in (service.ours, service.theirs, service.theirs):
        await caller.post(NEW_MESSAGE, json={"prompt": script("hi")})
    rows = (await service.admin.get(USAGE)).json()["data"]
    told = {row["tenant"]: (row["requests"], row["total_tokens"]) for row in rows}
    own = {}
    for name, caller in (("ours", service.ours), ("theirs", service.theirs)):
        (row,) = (await caller.get("/v1/usage")).json()["data"]
        own[name] = (row["requests"], row["total_tokens"])
    assert told == own
    assert {name: requests for name, (requests, _) in told.items()} == {"ours": 1, "theirs": 2}
    one = await service.admin.get(USAGE, params={"tenant_id": service.our_id})
    assert one.json()["data"] == rows[:1]
    answer = await service.admin.get(USAGE, headers={"Accept": "text/csv"})
    assert [row["tenant"] for row in csv.DictReader(io.StringIO(answer.text))] == ["ours", "theirs"]
    await service.admin.post(f"{TENANTS}/{service.our_id}", json={"name": "=1+1"})
    answer = await service.admin.get(USAGE, params={"format": "csv"})
    assert [row["tenant"] for row in csv.DictReader(io.StringIO(answer.text))] == ["'=1+1", "theirs"]
    missing = await service.admin.get(USAGE, params={"tenant_id": "0" * 32})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "tenant_not_found")
