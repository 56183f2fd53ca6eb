"""The benchmark of the service: its arithmetic, what it counts as an error, and one short run of everything."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.http_side import EventReader, HttpSide
from benchmarks.load import Answer, Question, Round
from benchmarks.prompts import Prompts, of_tokens
from benchmarks.report import Level, Report, as_json, percentile, ratios, side_figures, table_end, table_level
from tests.process import ROOT, environment, free_port

PIECE = b'data: {"text":"a","message_id":"m"}\n\n'
LAST = (
    b'data: {"text":"","message_id":"m","finish_reason":"length","usage":{"prompt_tokens":9,"cached_tokens":1,'
    b'"completion_tokens":7,"total_tokens":16}}\n\n'
)
ERROR = b'data: {"error":{"message":"Gone.","type":"x","param":null,"code":"engine_lost"},"message_id":"m"}\n\n'


def read(body: bytes, *, status: str = "200 OK", cut: int = 7) -> Answer:
    """The answer of a response that comes in small parts."""
    reader = EventReader()
    response = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    for at in range(0, len(response), cut):
        reader.parser.feed_data(response[at : at + cut])
    assert reader.done.done()
    return reader.answer


def answer(*arrivals: float, tokens: int, error: str | None = None) -> Answer:
    return Answer(
        started=0.0, ended=arrivals[-1], arrivals=list(arrivals), completion_tokens=tokens, prompt_tokens=5, error=error
    )


def one_round(*answers: Answer) -> Round:
    return Round(answers=list(answers), client_busy=0.1)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0], 0.99, 3.0),
        ([1.0, 3.0], 0.5, 2.0),
        ([4.0, 1.0, 3.0, 2.0, 5.0], 0.5, 3.0),
        ([*map(float, range(101))], 0.99, 99.0),
        ([0.0, 10.0], 1.0, 10.0),
        ([0.0, 10.0], 0.0, 0.0),
    ],
)
def test_percentiles(values: Sequence[float], share: float, expected: float) -> None:
    assert percentile(values, share) == pytest.approx(expected)


def test_a_sides_figures() -> None:
    first = one_round(answer(0.1, 0.2, 0.5, tokens=4), answer(0.3, 0.5, tokens=6))
    second = one_round(answer(0.2, 1.0, tokens=30), answer(0.4, tokens=99, error="Gone."))
    figures = side_figures([first, second])
    assert figures.tokens_per_second_of_rounds == pytest.approx([20, 30])
    assert figures.tokens_per_second == pytest.approx(25)
    assert figures.first_token_ms.p50 == pytest.approx(200)
    assert figures.between_tokens_ms.p50 == pytest.approx(250)
    assert figures.tokens_per_piece == pytest.approx(40 / 7)
    assert (figures.requests, figures.errors) == (4, {"Gone.": 1})
    assert ratios([first, second], [second, first]) == pytest.approx([20 / 30, 30 / 20])


def test_a_round_of_errors_alone_has_no_ratio() -> None:
    broken, whole = one_round(answer(1.0, tokens=0, error="Gone.")), one_round(answer(1.0, tokens=1))
    assert ratios([broken, whole], [whole, whole]) == [1.0]
    assert side_figures([broken]).first_token_ms.p50 is None


@pytest.mark.parametrize("cut", [1, 7, 1000])
async def test_tokens_are_counted_from_the_last_event(cut: int) -> None:
    whole = read(b": keep-alive\n\n" + 3 * PIECE + LAST, cut=cut)
    assert whole.error is None
    assert len(whole.arrivals) == 3
    assert (whole.prompt_tokens, whole.cached_tokens, whole.completion_tokens) == (9, 1, 7)


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (PIECE + ERROR, "200 OK", "engine_lost: Gone."),
        (PIECE, "200 OK", "the stream ended without a finish_reason"),
        (b"", "200 OK", "the stream ended without a finish_reason"),
        (PIECE + LAST[:40], "200 OK", "the stream ended without a finish_reason"),
        (b'{"error":{"message":"Full.","code":"overloaded"}}', "503 Unavailable", "503 overloaded: Full."),
        (b"<html>", "502 Bad Gateway", "502 <html>"),
    ],
)
async def test_what_does_not_end_well_is_an_error(body: bytes, status: str, expected: str) -> None:
    assert read(body, status=status).error == expected


async def test_a_lost_connection_is_an_error() -> None:
    reader = EventReader()
    reader.parser.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + PIECE)
    reader.fail("lost")
    assert reader.answer.error == "lost"


async def test_a_service_that_is_not_there_is_an_error() -> None:
    side = HttpSide(url=f"http://127.0.0.1:{free_port()}", key="k", timeout=5)
    question = Question(prompt="p", prompt_ids=[], max_tokens=1, temperature=0)
    with pytest.raises(OSError, match="Connect"):
        async with side.streams(1) as asks:
            await asks[0](question)


def by_words() -> Prompts:
    return of_tokens(100, lambda prompt: len(prompt.split()))


@pytest.mark.parametrize("prompts", [Prompts("Say {counter}!"), Prompts("Go on."), by_words()])
def test_no_two_prompts_are_the_same_and_all_are_as_long(prompts: Prompts) -> None:
    taken = [*prompts.take(50), *prompts.take(50)]
    assert len(set(taken)) == 100
    assert len({len(prompt) for prompt in taken}) == 1


def test_prompts_have_the_wanted_length() -> None:
    assert {len(prompt.split()) for prompt in by_words().take(3)} == {100}


def test_a_report_shows_every_error() -> None:
    figures = side_figures([one_round(answer(1.0, tokens=1), answer(1.0, tokens=0, error="engine_lost: Gone."))])
    level = Level(
        concurrency=2,
        http=figures,
        direct=figures,
        ratios=[1.0],
        ratio=1.0,
        api_cpu_us_per_token=None,
        load_average=0.5,
    )
    report = Report(
        version="1",
        date="2026-01-01",
        cores=2,
        settings={"json": Path("-")},
        levels=[level],
        api_peak_rss_mib=80.0,
        api_imported_torch=False,
    )
    assert report.errors == 2
    assert "http, 1 times: engine_lost: Gone." in table_level(level)
    assert "did not import torch" in table_end(report)
    assert json.loads(as_json(report))["levels"][0]["direct"]["errors"] == {"engine_lost: Gone.": 1}


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Fast, and with settings of a service that is not the benchmark's own.
    options = ["--start", "--engine=scripted", "--engine-option=--scripted-rate=2000", "--json=-", *arguments]
    command = [sys.executable, "-m", "benchmarks.serving", *options]
    env = environment(tmp_path, port=1, nonsense="ignored")
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    done = run(tmp_path, "--concurrency=1,3", "--max-tokens=20", "--rounds=2", "--processes=2")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert [level["concurrency"] for level in report["levels"]] == [1, 3]
    assert report["api_imported_torch"] is False
    assert 30 < report["api_peak_rss_mib"] < 300
    for level in report["levels"]:
        assert len(level["ratios"]) == 2
        assert level["ratio"] > 0
        assert level["api_cpu_us_per_token"] >= 0
        for side in (level["http"], level["direct"]):
            assert side["errors"] == {}
            assert side["requests"] == 8
            assert side["answer_tokens"] == 20
            assert side["tokens_per_second"] > 0
            assert side["first_token_ms"]["p99"] >= side["first_token_ms"]["p50"] > 0
            assert side["between_tokens_ms"]["p99"] >= 0
        assert level["http"]["prompt_tokens"] == level["direct"]["prompt_tokens"]
    assert "HTTP is" in done.stderr


def test_a_run_in_which_streams_fail_says_so(tmp_path: Path) -> None:
    script = '{"say":"{counter} and so on","fail_after":5}'
    done = run(tmp_path, "--concurrency=2", "--rounds=1", "--warmup=0", "--requests=2", f"--prompt={script}")
    assert done.returncode == 1, done.stderr
    (level,) = json.loads(done.stdout)["levels"]
    assert level["http"]["errors"] == {"generation_failed: The script says so.": 2}
    assert level["direct"]["errors"] == level["http"]["errors"]
    assert level["ratio"] is None
    assert "http, 2 times: generation_failed" in done.stderr


def test_what_cannot_start_is_said_with_its_log(tmp_path: Path) -> None:
    done = run(tmp_path, "--engine-option=--no-such-option")
    assert done.returncode == 2
    assert "unrecognized arguments: --no-such-option" in done.stderr
    assert "Traceback" not in done.stderr
