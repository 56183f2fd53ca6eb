"""LiteLLM's proxy beside the gateway: started from an environment of its own, before an upstream that costs nothing.

python3 -m venv litellm && litellm/bin/pip install 'litellm[proxy]==1.106.2'
python -m benchmarks.gateway --litellm litellm/bin/litellm
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from benchmarks.http_side import HttpSide
from benchmarks.load import Clients, Question, Round
from benchmarks.processes import cpu_seconds
from benchmarks.service_under_test import CannotStart, answers, free_port

_START_SECONDS = 120.0
_MODEL = "free"
_HEAD = (
    "| LiteLLM, at once | added p50, ms | HTTP p50 / p99, ms | upstream p50, ms | requests/s | its time a request, ms |"
    "\n|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy, with a master key and no database, and what stands behind it."""

    url: str
    key: str
    upstream: str
    pid: int


def compare(executable: Path, clients: Clients, levels: Sequence[int], *, requests: int, rounds: int) -> None:
    """Print a table: rounds through the proxy alternate with rounds on its upstream. Raises CannotStart."""
    question = Question(prompt="a", prompt_ids=[], max_tokens=1, temperature=0.0)
    with _running_proxy(executable) as proxy:
        through = HttpSide(url=proxy.url, key=proxy.key, timeout=60, model=_MODEL)
        behind = HttpSide(url=proxy.upstream, key="none", timeout=60, model=_MODEL)
        clients.ask(through, [question] * 100, 1)
        print(_HEAD)
        for level in levels:
            clients.ask(through, [question] * (2 * level + 20), level)
            took = 0.0
            there, direct = [], []
            for _ in range(rounds):
                before = cpu_seconds(proxy.pid)
                there.append(clients.ask(through, [question] * requests, level))
                took += cpu_seconds(proxy.pid) - before
                direct.append(clients.ask(behind, [question] * requests, level))
            print(_line(level, there, direct, 1000 * took / (rounds * requests)), flush=True)


def _line(level: int, there: list[Round], direct: list[Round], each_ms: float) -> str:
    errors = {answer.error for one in there + direct for answer in one.answers} - {None}
    if errors:
        raise CannotStart(f"LiteLLM: {errors}")
    through, behind = ([answer.latency_ms for one in rounds for answer in one.answers] for rounds in (there, direct))
    rate = median(len(one.answers) / one.seconds for one in there)
    return (
        f"| {level} | {median(through) - median(behind):.2f} | {median(through):.2f} / "
        f"{quantiles(through, n=100)[98]:.1f} | {median(behind):.2f} | {rate:.0f} | {each_ms:.2f} |"
    )


@contextmanager
def _running_proxy(executable: Path) -> Iterator[Proxy]:
    port, upstream, key = free_port(), free_port(), f"sk-{secrets.token_hex(16)}"
    behind = f"http://127.0.0.1:{upstream}"
    model = {"model": f"openai/{_MODEL}", "api_base": f"{behind}/v1", "api_key": "none"}
    wanted = {
        "model_list": [{"model_name": _MODEL, "litellm_params": model}],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False},
    }
    with tempfile.TemporaryDirectory() as directory:
        config, log = Path(directory) / "config.yaml", Path(directory) / "log"
        # YAML reads JSON.
        config.write_text(json.dumps(wanted), encoding="utf-8")
        commands = (
            [sys.executable, "-m", "benchmarks.free_upstream", str(upstream)],
            [str(executable), f"--config={config}", "--host=127.0.0.1", f"--port={port}", "--num_workers=1"],
        )
        environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        with log.open("wb") as output:
            processes = [
                subprocess.Popen(one, env=environment, stdout=output, stderr=output, start_new_session=True)
                for one in commands
            ]
            try:
                _wait(port, processes[-1], log)
                yield Proxy(url=f"http://127.0.0.1:{port}", key=key, upstream=behind, pid=processes[-1].pid)
            finally:
                for process in processes:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while not answers(port, "/health/liveliness"):
        if process.poll() is not None or time.monotonic() > give_up:
            raise CannotStart("LiteLLM does not start:\n" + log.read_text(errors="replace")[-2000:])
        time.sleep(0.2)
