"""Two services on one PostgreSQL: each limit of a tenant, a key or the keys of a rotation is one budget for both."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import NamedTuple

import pytest

from database.clock import now
from database.engine import create_engine
from database.identifier import new_id
from database.session import Database
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import Limits, LimitService
from services.limit_window import windows
from services.tenant_service import TenantService
from tests.conftest import SERVICE, create_postgres
from tests.process import ServiceProcess, script, two_services
from tests.rows import TESTER

_SECRET = "s" * 40
_CLIENTS, _FIT, _MAX_TOKENS = 32, 3, 50
# Runs until its service is killed: what it was charged stays charged.
_ENDLESS = {"prompt": script("x", pause=3600), "background": True, "max_tokens": _MAX_TOKENS}


class Replicas(NamedTuple):
    url: str
    services: tuple[ServiceProcess, ServiceProcess]

    def ask(self, number: int, key: str) -> int:
        """Ask one of them; the status."""
        client, headers = self.services[number % 2].client, {"Authorization": f"Bearer {key}"}
        return client.post("/chat/new/message/", json=_ENDLESS, headers=headers).status_code

    def ask_at_once(self, keys: list[str]) -> Counter[int]:
        """Ask both, from many clients and by all of these keys."""
        with ThreadPoolExecutor(_CLIENTS) as pool:
            # Every key comes to both services.
            return Counter(pool.map(lambda number: self.ask(number, keys[number // 2 % len(keys)]), range(_CLIENTS)))


@pytest.fixture(scope="module")
def replicas(
    postgres_directory: str, migrated_postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    url = create_postgres(postgres_directory, f"test_{new_id()}", "migrated", role=SERVICE)
    directory = tmp_path_factory.mktemp("replicas")
    settings = {"secret": _SECRET, "database_pool": 4, "max_running": 64}
    with two_services(url, directory, **settings) as (first, second):
        yield Replicas(url, (first, second))


async def _limited(url: str, limits: Limits, *, whose: str) -> list[str]:
    """Two keys of a new tenant: the tenant is limited, or the first key, or the second was made of it by rotation."""
    database = Database(create_engine(url))
    tenant = await TenantService(database).create(TESTER, new_id())
    keys = KeyService(database, Peppers(_SECRET.encode()))
    first = await keys.create(TESTER, tenant.id)
    key_id = None if whose == "tenant" else first.row.id
    await LimitService(database).set(TESTER, tenant.id, limits, key_id=key_id)
    if whose == "rotation":
        second = await keys.rotate(TESTER, tenant.id, first.row.id, timedelta(hours=1))
    else:
        second = await keys.create(TESTER, tenant.id)
    await database.close()
    return [first.secret, second.secret]


@pytest.mark.parametrize("whose", ["tenant", "key", "rotation"])
@pytest.mark.parametrize(
    "name", ["requests_per_minute", "tokens_per_minute", "turns_at_once", "tokens_per_day", "tokens_per_month"]
)
def test_of_many_clients_of_both_services_exactly_those_pass_that_a_limit_allows(
    replicas: Replicas, name: str, whose: str
) -> None:
    # The same length, without a wait.
    short = {"prompt": str(_ENDLESS["prompt"]).replace("3600", "0.00"), "max_tokens": _MAX_TOKENS}
    answer = replicas.services[0].client.post("/chat/new/message/", json=short).json()
    charged = answer["usage"]["prompt_tokens"] + _MAX_TOKENS
    limit = _FIT * charged + charged - 1 if "tokens" in name else _FIT
    while True:
        minute = windows(now())["limit_minute"]
        limited, other = asyncio.run(_limited(replicas.url, Limits(**{name: limit}), whose=whose))
        at_once = replicas.ask_at_once([limited] if whose == "key" else [limited, other])
        then = [replicas.ask(number, limited) for number in range(2)]
        # Another minute would bring another budget.
        if windows(now())["limit_minute"] == minute:
            break
    assert at_once == {202: _FIT, 429: _CLIENTS - _FIT}
    assert then == [429, 429]
    assert replicas.ask(0, other) == (202 if whose == "key" else 429)
