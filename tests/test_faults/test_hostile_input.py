"""No input breaks a parser, or keeps it busy: whatever is not declared to be raised is a defect."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import ROOT
from tests.test_faults.conftest import Tell
from tests.test_faults.hostile_parsers import PARSERS

_EXECUTED = re.compile(r"^stat::number_of_executed_units: (\d+)$", re.MULTILINE)


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_what_it_was_made_for(name: str) -> None:
    for seed in PARSERS[name].seeds:
        PARSERS[name].feed(seed)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not made for this platform")
@pytest.mark.parametrize("name", PARSERS)
def test_no_input_breaks_a_parser(name: str, request: pytest.FixtureRequest, tmp_path: Path, tell: Tell) -> None:
    share = -(-int(request.config.getoption("--cases")) // len(PARSERS))
    command = [sys.executable, "-m", "tests.test_faults.fuzzer", name, str(tmp_path), str(share)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    (executed,) = _EXECUTED.findall(done.stderr)
    assert int(executed) >= share
    tell(f"{name}: {executed} hostile inputs")
