"""Two services on one PostgreSQL: what is asked of one is heard, and answered again, by the other."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from database.identifier import new_id
from tests.conftest import SERVICE, create_postgres
from tests.event_stream import Event, events, seen_all, text
from tests.process import ServiceProcess, messages, script, two_services

_NEW_MESSAGE = "/chat/new/message/"
_SAID = "你好 👩‍👩‍👧 " * 20
Replicas = tuple[ServiceProcess, ServiceProcess]


@pytest.fixture(scope="module")
def replicas(
    postgres_directory: str, migrated_postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    url = create_postgres(postgres_directory, f"test_{new_id()}", "migrated", role=SERVICE)
    directory = tmp_path_factory.mktemp("replicas")
    with two_services(url, directory, secret="s" * 40, database_pool=5) as services:
        yield services


def test_a_turn_begun_on_one_is_heard_on_the_other_while_it_runs_and_after(replicas: Replicas) -> None:
    one, two = replicas
    begun = one.client.post(_NEW_MESSAGE, json={"prompt": script(_SAID, rate=200), "background": True}).json()
    heard: list[Event] = []
    services = [two, one]
    while not seen_all(heard):
        # A few events of the one, then a few of the other.
        services.reverse()
        headers = {"Last-Event-ID": str(heard[-1].id)} if heard else {}
        lines: list[str] = []
        with services[0].client.stream("GET", begun["stream_url"], headers=headers) as response:
            assert response.status_code == 200
            for line in response.iter_lines():
                lines.append(line)
                if lines.count("") > 3:
                    break
        heard += events("\n".join(lines) + "\n")
    assert text(heard) == _SAID
    assert max(len(event.data["text"]) for event in heard) < len(_SAID), "it had ended before it was heard"
    for service in replicas:
        again = events(service.client.get(begun["stream_url"], headers={"Last-Event-ID": "7"}).text)
        assert text(again) == _SAID[7:]
        assert again[-1] == heard[-1]
        over = service.client.get(begun["stream_url"], headers={"Last-Event-ID": str(heard[-1].id)})
        assert over.status_code == 204


def test_a_turn_that_runs_on_one_is_cancelled_through_the_other(replicas: Replicas) -> None:
    one, two = replicas
    begun = one.client.post(_NEW_MESSAGE, json={"prompt": script("word " * 200, rate=10), "background": True}).json()
    stopped = two.client.delete(f"/chat/stream/{begun['message_id']}").json()
    assert stopped == {"message_id": begun["message_id"], "status": "cancelled"}


def test_a_turn_of_which_only_numbers_are_kept_is_cancelled_through_any_of_them(replicas: Replicas) -> None:
    for asked in replicas:
        body = {"prompt": script("word ", repeat=10_000, rate=10), "stream": True, "store": False}
        with replicas[0].client.stream("POST", _NEW_MESSAGE, json=body) as response:
            lines = response.iter_lines()
            message_id = events(next(lines) + "\n\n")[0].data["message_id"]
            told = {service.client.get(f"/chat/stream/{message_id}").status_code for service in replicas}
            stopped = asked.client.delete(f"/chat/stream/{message_id}").json()
            assert stopped == {"message_id": message_id, "status": "cancelled"}
            assert events("\n".join(lines) + "\n")[-1].data["error"]["code"] == "turn_cancelled"
        assert told == {404}
        # Once it has ended, all say the same.
        for service in replicas:
            assert service.client.delete(f"/chat/stream/{message_id}").json() == stopped


def test_a_hundred_who_send_one_idempotency_key_to_two_services_get_one_answer(replicas: Replicas) -> None:
    before = len(messages(replicas[0].client))
    used = usage(replicas[0])
    body = {"prompt": script("word " * 20, rate=100)}
    together = threading.Barrier(100)

    def ask(number: int) -> tuple[int, bytes]:
        together.wait()
        client = replicas[number % 2].client
        response = client.post(_NEW_MESSAGE, json=body, headers={"Idempotency-Key": "one-key"})
        return response.status_code, response.content

    with ThreadPoolExecutor(100) as pool:
        answers = set(pool.map(ask, range(100)))
    ((status, _),) = answers
    assert status == 200
    assert len(messages(replicas[0].client)) == before + 1
    assert usage(replicas[0]) == used + 1


def usage(service: ServiceProcess) -> int:
    """Requests that were counted."""
    data = service.client.get("/v1/usage", params={"group_by": "model"}).json()["data"]
    return sum(int(row["requests"]) for row in data)
