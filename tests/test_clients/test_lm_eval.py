"""lm-evaluation-harness against the running service: its numbers are those that transformers gives."""

import asyncio
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from services.inference.detokenizer import without_controls
from tests.openai_clients import key_of
from tests.service import Service
from tests.tiny_text_model import NAME, Reference, running_tiny_model

# Large, and nothing else needs it: an environment beside the service's.
PYTHON = Path(sys.prefix) / "harness" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="the harness's environment is not here: `make interop` makes it"),
    pytest.mark.timeout(600),
]
QUESTIONS = [
    {"question": "the world of the", "choices": ["people", "sophisticated model", "token"], "answer": 0},
    {"question": "philosophy 2024", "choices": ["answer", "你好", "user"], "answer": 2},
    {"question": "the assistant", "choices": ["model", "world"], "answer": 1},
]
# The second is longer than the window that the harness is told of, and scored in pieces.
TEXTS = [{"text": "the model answers people"}, {"text": "philosophy of the 你好 world " * 12}]
WINDOW = 64
TASKS: dict[str, dict[str, Any]] = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    },
    "generated": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "nothing",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
    },
}


def write_tasks(folder: Path) -> None:
    for name, task in TASKS.items():
        data = folder / f"{name}.json"
        data.write_text(json.dumps(TEXTS if name == "rolling" else QUESTIONS), encoding="utf-8")
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
        written = {"task": name, **source, **task}
        # YAML can be written as JSON.
        (folder / f"{name}.yaml").write_text(json.dumps(written), encoding="utf-8")


async def evaluated(
    service: Service, folder: Path, tasks: list[str], *, tokenized: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The harness's results, and what it heard for each sample, by task."""
    write_tasks(folder)
    arguments = {
        "model": NAME,
        "base_url": f"{service.url}/v1/completions",
        "tokenizer": folder / NAME,
        "tokenizer_backend": "huggingface",
        "tokenized_requests": tokenized,
        "max_length": WINDOW,
        "num_concurrent": 1,
        "max_retries": 1,
    }
    clean = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    env = clean | {"OPENAI_API_KEY": key_of(service), "HF_HUB_OFFLINE": "1", "HOME": str(folder)}
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, "-m", "lm_eval", "--model", "local-completions", "--tasks", ",".join(tasks), "--log_samples"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())),
        *("--include_path", folder, "--output_path", folder / "out", "--batch_size", "2"),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return read(folder / "out", tasks)


def read(folder: Path, tasks: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    (results,) = folder.glob("**/results_*.json")
    samples = {}
    for name in tasks:
        (file,) = folder.glob(f"**/samples_{name}_*.jsonl")
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        samples[name] = [line["filtered_resps"] for line in sorted(lines, key=lambda line: line["doc_id"])]
    return json.loads(results.read_text())["results"], samples


def encoded(reference: Reference, text: str) -> list[int]:
    ids: list[int] = reference.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def rolling(reference: Reference, text: str) -> float:
    """In windows that each go on where the one before ends, with as much before them as there is room for."""
    # It keeps a place for the token that it asks for, and another one.
    ids, size = encoded(reference, text), WINDOW - 2
    first = [reference.tokenizer.bos_token_id, *ids[:size]]
    total = reference.scored(first, 1)[0]
    for at in range(size, len(ids), size):
        window = ids[max(0, min(at + size, len(ids)) - size - 1) : at + size]
        total += reference.scored(window, len(window) - len(ids[at : at + size]))[0]
    return total


def check_choices(reference: Reference, heard: Any) -> float:
    """Compare every log-likelihood; the accuracy that follows."""
    right = 0
    for question, answers in zip(QUESTIONS, heard, strict=True):
        context, choices = str(question["question"]), question["choices"]
        assert isinstance(choices, list)
        totals = []
        for choice, (total, greedy) in zip(choices, answers, strict=True):
            whole = encoded(reference, f"{context} {choice}")
            expected, all_likeliest = reference.scored(whole, len(encoded(reference, context)))
            assert float(total) == pytest.approx(expected, abs=1e-3)
            assert str(greedy) == str(all_likeliest)
            totals.append(expected)
        right += totals.index(max(totals)) == question["answer"]
    return right / len(QUESTIONS)


def check_generated(reference: Reference, heard: Any) -> None:
    for question, (text,) in zip(QUESTIONS, heard, strict=True):
        ids = encoded(reference, str(question["question"]))
        made = reference.tokenizer.decode(reference.continued(ids, 8), clean_up_tokenization_spaces=False)
        # A random model says what no answer holds.
        assert text == without_controls(made).partition("\n")[0]


async def test_with_tokens_all_its_numbers_are_those_of_transformers(migrated_sqlite: Path, tmp_path: Path) -> None:
    async with running_tiny_model(tmp_path, migrated_sqlite) as (service, reference):
        results, heard = await evaluated(service, tmp_path, list(TASKS), tokenized=True)
    assert results["choices"]["acc,none"] == pytest.approx(check_choices(reference, heard["choices"]))
    check_generated(reference, heard["generated"])
    totals = [rolling(reference, each["text"]) for each in TEXTS]
    assert [float(total) for total, *_ in heard["rolling"]] == pytest.approx(totals, abs=1e-3)
    perplexity = math.exp(-sum(totals) / sum(len(each["text"].encode()) for each in TEXTS))
    assert results["rolling"]["byte_perplexity,none"] == pytest.approx(perplexity, rel=1e-4)


async def test_with_texts_too_where_the_tokenizer_puts_nothing_before_them(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    # It counts a text's tokens without the one that others put there; and spells special tokens, which are text here.
    async with running_tiny_model(tmp_path, migrated_sqlite, marks_start=False) as (service, reference):
        results, heard = await evaluated(service, tmp_path, ["choices", "generated"], tokenized=False)
    assert results["choices"]["acc,none"] == pytest.approx(check_choices(reference, heard["choices"]))
    check_generated(reference, heard["generated"])
