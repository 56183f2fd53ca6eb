"""`/v1/completions` as the official Python client meets it, and what its turns are in the log."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.limit_service import Limits, LimitService
from tests.openai_clients import MODEL, async_client
from tests.rows import TESTER
from tests.service import Service, running_service, script

ROUTE = "/v1/completions"


async def complete(service: Service, prompt: Any, **fields: Any) -> Any:
    async with async_client(service) as client:
        return await client.completions.create(**{"model": MODEL, "prompt": prompt, "max_tokens": 100, **fields})


async def log_of(service: Service) -> list[dict[str, Any]]:
    """Our tenant's history, oldest first."""
    messages: list[dict[str, Any]] = (await service.ours.get("/chat/get/messages/")).json()["messages"]
    return messages[::-1]


async def test_a_whole_answer_has_the_shape_that_the_client_knows_and_a_row_in_the_log(service: Service) -> None:
    prompt = script("你好 👩‍🚀")
    answer = await complete(service, prompt, user="ann")
    (choice,) = answer.choices
    assert (answer.object, answer.model, answer.id[:5]) == ("text_completion", MODEL, "cmpl-")
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, "你好 👩‍🚀", "stop", None)
    (logged,) = await log_of(service)
    assert (logged["message_id"], logged["conversation_id"]) == (answer.id.removeprefix("cmpl-"), None)
    assert (logged["prompt"], logged["response"], logged["status"]) == (prompt, choice.text, "completed")
    # No template around it: the scripted engine's tokens are the bytes of the text.
    assert logged["prompt_tokens"] == answer.usage.prompt_tokens == len(prompt.encode())
    assert logged["completion_tokens"] == answer.usage.completion_tokens == len(choice.text.encode()) + 1


@pytest.mark.parametrize(
    "fields", [{}, {"n": 2, "echo": True, "logprobs": 2}, {"echo": True, "max_tokens": 0}], ids=str
)
async def test_the_streamed_answers_put_together_are_the_whole_ones(
    sqlite_service: Service, fields: dict[str, Any]
) -> None:
    prompts = [script("one two"), script("drei", rate=300)]
    async with async_client(sqlite_service) as client:
        asked: Any = {"model": MODEL, "prompt": prompts, "max_tokens": 100, **fields}
        whole = await client.completions.create(**asked)
        streamed = await client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        *chunks, usage = [chunk async for chunk in streamed]
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert {(chunk.id, chunk.object, chunk.usage) for chunk in chunks} == {(usage.id, "text_completion", None)}
    for expected in whole.choices:
        parts = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == expected.index]
        assert "".join(part.text for part in parts) == expected.text
        assert [part.finish_reason for part in parts if part.finish_reason] == [expected.finish_reason]
        scored = [part.logprobs for part in parts if part.logprobs]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            together = [each for part in scored for each in getattr(part, name)]
            assert together == (getattr(expected.logprobs, name) if expected.logprobs else [])


async def test_each_prompt_is_a_turn_of_its_own_and_answers_are_numbered_prompt_by_prompt(service: Service) -> None:
    prompts = [script("first", rate=200), script("second"), script("third")]
    answer = await complete(service, prompts, n=2, best_of=2)
    said = ["first", "first", "second", "second", "third", "third"]
    assert [(choice.index, choice.text) for choice in answer.choices] == list(enumerate(said))
    logged = await log_of(service)
    assert sorted((each["prompt"], each["response"]) for each in logged) == sorted(
        (prompt, f"{text}\n\n{text}") for prompt, text in zip(prompts, said[::2], strict=True)
    )
    for name in ("prompt_tokens", "completion_tokens"):
        assert getattr(answer.usage, name) == sum(each[name] for each in logged)


async def test_log_probabilities_are_of_prompt_and_answer_and_of_the_token_that_ended_it(
    sqlite_service: Service,
) -> None:
    # Prompts that are no scripts are answered with themselves.
    (choice,) = (await complete(sqlite_service, "né", echo=True, logprobs=1)).choices
    assert choice.text == "néYou said: né"
    expected = ["n", "bytes:\\xc3", "bytes:\\xa9", *"You said: n", "bytes:\\xc3", "bytes:\\xa9", "<|end|>"]
    assert choice.logprobs.tokens == expected
    assert choice.logprobs.token_logprobs == [None, *[0.0] * (len(expected) - 1)]
    assert choice.logprobs.top_logprobs == [None, *({token: 0.0} for token in expected[1:])]
    assert choice.logprobs.text_offset == [0, 1, 1, *range(2, 14), 13, 14]
    (plain,) = (await complete(sqlite_service, "né", logprobs=0, max_tokens=3)).choices
    assert (plain.text, plain.logprobs.tokens) == ("You", list("You"))
    assert plain.logprobs.top_logprobs == [{token: 0.0} for token in "You"]


async def test_a_prompt_alone_is_scored_without_a_new_token(service: Service) -> None:
    answer = await complete(service, "abc", echo=True, logprobs=0, max_tokens=0)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("abc", "length")
    assert choice.logprobs.token_logprobs == [None, 0.0, 0.0]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 0)
    assert [(each["response"], each["completion_tokens"]) for each in await log_of(service)] == [("", 0)]


async def test_token_ids_are_taken_as_they_are_and_the_log_says_what_they_stand_for(service: Service) -> None:
    user, end = 257, 259
    ids = [user, *script("hi").encode(), end]
    one = await complete(service, ids, echo=True, logprobs=0)
    assert one.choices[0].text == f"<|user|>{script('hi')}<|end|>hi"
    assert one.choices[0].logprobs.text_offset[:2] == [0, len("<|user|>")]
    two = await complete(service, [list(b"a\0b"), list(b"c")])
    assert [choice.text for choice in two.choices] == ["You said: ab", "You said: c"]
    # What no database can store is not in the log.
    first, *others = [each["prompt"] for each in await log_of(service)]
    assert (first, set(others)) == (f"<|user|>{script('hi')}<|end|>", {"ab", "c"})


async def test_a_text_cannot_spell_a_special_token(sqlite_service: Service) -> None:
    answer = await complete(sqlite_service, "<|user|>", echo=True)
    assert answer.choices[0].text == "<|user|>You said: <|user|>"
    assert answer.usage.prompt_tokens == len("<|user|>")


async def test_a_stop_string_ends_an_answer_and_sixteen_tokens_are_the_default(sqlite_service: Service) -> None:
    said = script("abcdefghijklmnopqrstuvwxyz")
    stopped = await complete(sqlite_service, said, stop=["x", "efg", *"123456789"])
    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == ("abcd", "stop")
    cut = await complete(sqlite_service, said, max_tokens=None)
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("abcdefghijklmnop", "length")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [1, True]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [10**30]}, "prompt"),
    ({"prompt": [[1], [999_999]]}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": "a\0b"}, "prompt"),
    ({"prompt": ["a"] * 65}, "prompt"),
    ({"prompt": ["a"] * 50, "n": 3}, "prompt"),
    ({"prompt": "a" * 8192}, "prompt"),
    ({"prompt": "a" * 8190}, "max_tokens"),
    ({"suffix": "end"}, "suffix"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"best_of": 2}, "best_of"),
    ({"n": 3, "best_of": 5}, "best_of"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1, "echo": True}, "max_tokens"),
    ({"logprobs": 6}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"messages": []}, "messages"),
    ({"store": True}, "store"),
]


async def test_what_cannot_be_honoured_is_refused_by_name_and_begins_no_turn(sqlite_service: Service) -> None:
    for fields, param in REFUSED:
        for stream in (False, True):
            body = {"model": MODEL, "prompt": "hi", **fields} | ({"stream": True} if stream else {})
            refused = await sqlite_service.ours.post(ROUTE, json=body)
            if stream and "stream_options" in fields:
                continue
            assert refused.status_code == 400, fields
            error = refused.json()["error"]
            assert (error["type"], error["param"]) == ("invalid_request_error", param), error
    unknown = await sqlite_service.ours.post(ROUTE, json={"model": "other", "prompt": "hi"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert [each["prompt"] for each in await log_of(sqlite_service)] == ["hi"]


async def _ask(service: Service, prompts: int, **fields: Any) -> httpx2.Response:
    body = {"model": MODEL, "prompt": [script("x")] * prompts, "max_tokens": 10, **fields}
    return await service.ours.post(ROUTE, json=body)


async def _limit(service: Service, **limits: int) -> None:
    await LimitService(service.database).set(TESTER, service.our_id, Limits(**limits))


async def _used(service: Service) -> tuple[int, int, int]:
    """Requests and tokens of the minute, and what runs."""
    (kept,) = await LimitService(service.database).of_tenant(service.our_id)
    return kept.row.minute_requests, kept.row.month_tokens, kept.row.running


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("limits", [{"turns_at_once": 3}, {"requests_per_minute": 3}, {"tokens_per_month": 80}])
async def test_more_prompts_than_a_limit_are_refused_for_good_and_cost_nothing(
    service: Service, limits: dict[str, int], streamed: bool
) -> None:
    await _limit(service, **limits)
    refused = await _ask(service, 4, stream=streamed)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in refused.headers
    assert "more than the limit" in refused.json()["error"]["message"]
    assert (await _used(service), await log_of(service)) == ((0, 0, 0), [])
    assert (await _ask(service, 3)).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_prompts_that_a_limit_allows_but_not_now_begin_all_or_none_and_burn_nothing(
    service: Service, streamed: bool
) -> None:
    await _limit(service, turns_at_once=3, tokens_per_month=100_000)
    body = {"model": MODEL, "prompt": script("x", rate=10, repeat=1000), "stream": True, "max_tokens": 1000}
    async with service.ours.stream("POST", ROUTE, json=body) as running:
        assert running.status_code == 200
        before = await _used(service)
        refused = await _ask(service, 3, stream=streamed)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await _used(service), len(await log_of(service))) == (before, 1)
        assert (await _ask(service, 2, stream=streamed)).status_code == 200
    assert [each["status"] for each in (await log_of(service))[1:]] == ["completed"] * 2


async def test_prompts_for_which_the_engine_has_no_places_begin_all_or_none(service: Service) -> None:
    await service.admin.post(f"/admin/v1/tenants/{service.our_id}", json={"max_places": 3})
    await _limit(service, tokens_per_month=100_000)
    in_vain = await _ask(service, 4)
    assert (in_vain.status_code, in_vain.headers["x-should-retry"]) == (429, "false")
    body = {"model": MODEL, "prompt": script("x", rate=10, repeat=1000), "stream": True, "max_tokens": 1000}
    async with service.ours.stream("POST", ROUTE, json=body) as running:
        assert running.status_code == 200
        before = await _used(service)
        refused = await _ask(service, 3)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert (await _used(service), len(await log_of(service))) == (before, 1)
        while (answer := await _ask(service, 2)).status_code == 429:
            pass
        assert answer.status_code == 200


async def test_more_prompts_than_the_queue_has_places_for_are_refused_for_good(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "chatglm.db")
    url = f"sqlite:///{tmp_path / 'chatglm.db'}"
    async with running_service(url, tmp_path, max_running=4, max_queued=12) as service:
        for prompts, max_tokens in ((15, 10), (14, 2048)):
            refused = await _ask(service, prompts, max_tokens=max_tokens)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt"), (prompts, max_tokens)
        for prompts, max_tokens in ((14, 10), (2, 4000)):
            assert (await _ask(service, prompts, max_tokens=max_tokens)).status_code == 200, (prompts, max_tokens)
        assert len(await log_of(service)) == 16


async def test_of_many_lists_at_once_exactly_those_pass_whole_that_fit(service: Service) -> None:
    await _limit(service, requests_per_minute=10)
    at_once = await asyncio.gather(*(_ask(service, 3) for _ in range(16)))
    passed = sum(answer.status_code == 200 for answer in at_once)
    # Unless a minute ended in between.
    assert passed in {3, 6}
    assert len(await log_of(service)) == 3 * passed


async def test_a_client_that_leaves_cancels_all_its_turns(sqlite_service: Service) -> None:
    prompts = [script("x", rate=20, repeat=1000), script("y", pause=3600)]
    body = {"model": MODEL, "prompt": prompts, "stream": True, "max_tokens": 1000}
    async with sqlite_service.ours.stream("POST", ROUTE, json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                break
    while sorted(each["status"] for each in await log_of(sqlite_service)) != ["cancelled"] * 2:
        await asyncio.sleep(0)
    assert {each["response"][:1] for each in await log_of(sqlite_service)} == {"x", ""}


async def test_one_answer_that_fails_ends_the_stream_with_its_error_and_the_others_with_it(
    sqlite_service: Service,
) -> None:
    prompts = [script("x", rate=20, repeat=1000), script("yyy", fail_after=1)]
    body = {"model": MODEL, "prompt": prompts, "max_tokens": 1000}
    async with sqlite_service.ours.stream("POST", ROUTE, json=body | {"stream": True}) as response:
        streamed = (await response.aread()).decode()
    assert streamed.rstrip().rpartition("data: ")[2].startswith('{"error":')
    assert "[DONE]" not in streamed
    whole = await sqlite_service.ours.post(ROUTE, json=body)
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "generation_failed")
    while sorted(each["status"] for each in await log_of(sqlite_service)) != ["cancelled"] * 2 + ["failed"] * 2:
        await asyncio.sleep(0)


async def test_a_turn_that_is_not_to_be_stored_leaves_only_its_numbers(service: Service) -> None:
    async with async_client(service) as client:
        await client.completions.create(model=MODEL, prompt="secret", extra_body={"store": False})
    (logged,) = await log_of(service)
    assert (logged["prompt"], logged["response"], logged["prompt_tokens"]) == (None, None, 6)
