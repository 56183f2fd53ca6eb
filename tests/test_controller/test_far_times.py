"""Times at the ends of the calendar, wherever a time is taken."""

import pytest

from tests.service import NEW_MESSAGE, Service, script

# The first and last that Python has, and those that an offset moves out of the calendar.
LAST, FIRST = "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"
BEYOND = ("9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59")


async def test_a_key_may_end_with_the_calendar_and_be_rotated_as_often_as_wanted(service: Service) -> None:
    url = f"/admin/v1/tenants/{service.our_id}/keys"
    made = (await service.admin.post(url, json={"name": "far", "expires_at": LAST})).json()
    for _ in range(2):
        answer = await service.admin.post(f"{url}/{made['id']}/rotate", json={"overlap_hours": 24 * 366})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert made["expires_at"] == LAST
        headers = {"Authorization": f"Bearer {made['key']}"}
        assert (await service.nobody.get("/v1/models", headers=headers)).status_code == 200
    shown = (await service.admin.get(f"{url}/{made['id']}")).json()
    assert shown["expires_at"] == LAST


async def test_a_keys_end_may_be_moved_to_either_end_of_the_calendar_and_not_beyond(service: Service) -> None:
    url = f"/admin/v1/tenants/{service.our_id}/keys"
    made = (await service.admin.post(url, json={"name": "far"})).json()
    for end in (FIRST, LAST):
        assert (await service.admin.post(f"{url}/{made['id']}", json={"expires_at": end})).status_code == 200
        assert (await service.admin.get(f"{url}/{made['id']}")).json()["expires_at"] == end
    for end in BEYOND:
        refused = await service.admin.post(f"{url}/{made['id']}", json={"expires_at": end})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "expires_at")


@pytest.mark.parametrize("path", ["/chat/get/messages/", "/v1/conversations"])
async def test_what_is_looked_for_by_time(service: Service, path: str) -> None:
    await service.ours.post(NEW_MESSAGE, json={"prompt": script("hi")})
    for name, at, status in (
        ("since", FIRST, 200),
        ("until", FIRST, 200),
        ("since", LAST, 200),
        ("until", LAST, 200),
        *((name, at, 400) for name in ("since", "until") for at in BEYOND),
    ):
        answer = await service.ours.get(path, params={name: at})
        assert answer.status_code == status, (name, at, answer.text)
        found = answer.json().get("messages", answer.json().get("data"))
        if status == 200:
            assert bool(found) == ((name, at) in {("since", FIRST), ("until", LAST)})


async def test_usage_of_the_first_and_the_last_days(service: Service) -> None:
    for path, caller in (("/v1/usage", service.ours), ("/admin/v1/usage", service.admin)):
        for query in (
            {"until": "0001-01-01"},
            {"since": "0001-01-01", "until": "0001-01-02"},
            {"until": "9999-12-31"},
            {"since": "9999-12-31", "until": "9999-12-31"},
        ):
            assert (await caller.get(path, params=query)).status_code == 200, query
        for query in ({"since": "0001-01-01"}, {"since": "9999-12-31"}):
            assert (await caller.get(path, params=query)).status_code == 400, query
