"""Limits, weights and usage by the administrator's command line."""

import asyncio
import csv
import io

from database.engine import create_engine
from database.session import Database
from services.principal import Principal
from tests.administration import Admin, assert_refused, authenticated, cells
from tests.rows import a_usage, store


def test_limits_are_set_all_together_and_listed_with_what_runs(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    (key,) = on.json("key", "create", "ours")
    assert on.json("limit", "list", "ours") == []
    (whole,) = on.json("limit", "set", "ours", "--requests-per-minute", "60", "--tokens-per-month", "1000000")
    (of_key,) = on.json("limit", "set", "ours", "--key", key["id"], "--turns-at-once", "2")
    assert (whole["key"], whole["requests_per_minute"], whole["tokens_per_month"]) == (None, 60, 1_000_000)
    assert (of_key["key"], of_key["turns_at_once"], of_key["running"]) == (key["id"], 2, 0)
    (changed,) = on.json("limit", "set", "ours", "--tokens-per-day", "5")
    assert (changed["requests_per_minute"], changed["tokens_per_day"], changed["tokens_per_month"]) == (None, 5, None)
    listed = {row["key"]: row for row in on.json("limit", "list", "ours")}
    assert listed == {None: changed, key["id"]: of_key}
    assert on("limit", "set", "ours", "--tokens-per-day", "-1").status == 2
    assert_refused(on("limit", "set", "nobody", "--tokens-per-day", "1"), "There is no tenant named 'nobody'.")
    assert_refused(on("limit", "set", "ours", "--key", "0" * 32), "There is no such key.")


def test_limits_of_a_rotation_are_listed_once_with_all_its_keys(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    (old,) = on.json("key", "create", "ours")
    on.json("limit", "set", "ours", "--key", old["id"], "--turns-at-once", "2")
    (new,) = on.json("key", "rotate", old["id"])
    (listed,) = on.json("limit", "list", "ours")
    assert (listed["key"], listed["keys"], listed["turns_at_once"]) == (new["id"], [old["id"], new["id"]], 2)
    (changed,) = on.json("limit", "set", "ours", "--key", new["id"], "--turns-at-once", "3")
    assert on.json("limit", "list", "ours") == [changed]
    assert {f"{old['id']}, {new['id']}"} <= cells(on("limit", "list", "ours").output)


def test_what_is_used_of_limits_is_listed_beside_them(on: Admin, database_url: str) -> None:
    on.json("tenant", "create", "ours")
    (key,) = on.json("key", "create", "ours")
    _use(database_url, authenticated(database_url, key["key"]))
    on.json("limit", "set", "ours", "--tokens-per-month", "1000")
    (listed,) = on.json("limit", "list", "ours")
    assert (listed["tokens_used_this_month"], listed["requests_used_this_minute"]) == (12, 0)
    shown = cells(on("limit", "list", "ours").output)
    assert {"tokens_per_month", "1000", "tokens_used_this_month", "12"} <= shown


def test_a_weight_is_set_within_its_bounds(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    assert on.json("tenant", "weight", "ours", "2.5")[0]["weight"] == 2.5
    for weight in ("0", "101", "nan"):
        assert_refused(on("tenant", "weight", "ours", weight), "A weight is 0.01 to 100.")
    assert_refused(on("tenant", "weight", "nobody", "1"), "There is no tenant named 'nobody'.")


def test_a_ceiling_of_places_is_set_taken_away_and_audited(on: Admin) -> None:
    on.json("tenant", "create", "ours")
    assert on.json("tenant", "places", "ours", "8")[0]["max_places"] == 8
    assert on.json("tenant", "places", "ours", "--no-ceiling")[0]["max_places"] is None
    for arguments in (["0"], ["-1"], ["1.5"], [], ["8", "--no-ceiling"]):
        assert on("tenant", "places", "ours", *arguments).status == 2
    assert_refused(on("tenant", "places", "ours", "1000001"), "max_places is 1 to 1000000.")
    changes = [(event["before"], event["after"]) for event in on.json("audit", "--tenant", "ours")[:2]]
    assert [(before["max_places"], after["max_places"]) for before, after in changes] == [(8, None), (None, 8)]


def test_usage_of_all_tenants_is_told_as_a_table_json_or_csv(on: Admin, database_url: str) -> None:
    for name in ("ours", "theirs"):
        on.json("tenant", "create", name)
        (key,) = on.json("key", "create", name)
        _use(database_url, authenticated(database_url, key["key"]))
    rows = on.json("usage")
    assert [(row["tenant"], row["requests"], row["total_tokens"]) for row in rows] == [
        ("ours", 3, 12),
        ("theirs", 3, 12),
    ]
    assert on.json("usage", "ours") == rows[:1]
    assert on.json("usage", "--until", "2020-01-01") == on.json("usage", "--until", "0001-01-05") == []
    (by_model,) = on.json("usage", "theirs", "--by", "model")
    assert (by_model["model"], "day" in by_model) == ("a-model", False)
    read = list(csv.DictReader(io.StringIO(on("usage", "--csv").output)))
    assert read == [{name: str(value) for name, value in row.items()} for row in rows]
    # The heading is the same with rows and without.
    for by in ([], ["--by", "model", "--by", "day"]):
        heading, *_, last = on("usage", "--csv", *by).output.splitlines()
        assert on("usage", "--csv", *by, "--until", "2020-01-01").output.splitlines() == [heading]
        assert last.startswith("theirs,")
    assert on.json("usage", "--key", rows[0]["key"], "--model", "a-model") == rows[:1]
    assert on.json("usage", "--key", "0" * 32) == on.json("usage", "--model", "another") == []
    on("tenant", "rename", "theirs", "@theirs")
    read = list(csv.DictReader(io.StringIO(on("usage", "--csv").output)))
    assert [row["tenant"] for row in read] == ["'@theirs", "ours"]
    assert {"ours", "a-model", "12"} <= cells(on("usage").output)
    assert on("usage", "--by", "tenant").status == 2
    assert_refused(on("usage", "nobody"), "There is no tenant named 'nobody'.")


def _use(url: str, principal: Principal) -> None:
    async def use() -> None:
        database = Database(create_engine(url))
        await store(database, principal, a_usage(principal, requests=3, prompt_tokens=5, completion_tokens=7))
        await database.close()

    asyncio.run(use())
