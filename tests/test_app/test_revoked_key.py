"""A key that is revoked, as two services on one PostgreSQL see it."""

import json
import time
from pathlib import Path
from typing import Any

import httpx2

from tests.process import KEY, environment, run_module, started_service

_LONGEST_SECONDS = 5


def test_a_key_revoked_through_one_service_is_refused_by_every_one_within_five_seconds(
    postgres_url: str, tmp_path: Path
) -> None:
    envs = [
        environment(tmp_path / name, database_url=postgres_url, secret="s" * 40, bootstrap_api_key=KEY, database_pool=4)
        for name in ("one", "two")
    ]
    with started_service(envs[0], tmp_path / "log1") as one, started_service(envs[1], tmp_path / "log2") as two:
        key, operations = (_made(envs[0], whose) for whose in ("default", "--admin"))
        (tenant,) = (row for row in _told(envs[0], "tenant", "list") if row["name"] == "default")

        def statuses() -> list[int]:
            return [_get(service.url, key["key"]).status_code for service in (one, two)]

        # Each remembers by now that it has let the key in.
        assert statuses() == [200, 200]
        path = f"/admin/v1/tenants/{tenant['id']}/keys/{key['id']}/revoke"
        headers = {"Authorization": f"Bearer {operations['key']}"}
        assert httpx2.post(one.url + path, headers=headers).status_code == 200
        revoked_at = time.monotonic()
        asked_at = revoked_at
        while statuses() != [401, 401]:
            assert asked_at - revoked_at < _LONGEST_SECONDS
            asked_at = time.monotonic()
        assert _get(two.url, key["key"]).json()["error"]["code"] == "invalid_api_key"


def _made(env: dict[str, str], whose: str) -> dict[str, Any]:
    (made,) = _told(env, "key", "create", whose)
    return made


def _told(env: dict[str, str], *words: str) -> list[dict[str, Any]]:
    done = run_module("tools.admin", *words, "--json", env=env)
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


def _get(url: str, key: str) -> httpx2.Response:
    return httpx2.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})
