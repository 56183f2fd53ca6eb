"""A data directory has one service, and a predecessor's turns are settled only when it is dead."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.instance import AlreadyRunning, claim_instance


def test_an_instance_keeps_its_name(tmp_path: Path) -> None:
    with claim_instance(tmp_path) as first:
        pass
    with claim_instance(tmp_path) as second:
        assert second.id == first.id


def test_a_claimed_directory_is_refused(tmp_path: Path) -> None:
    with claim_instance(tmp_path), pytest.raises(AlreadyRunning), claim_instance(tmp_path):
        pass


def test_a_child_that_outlives_its_supervisor_holds_the_claim(tmp_path: Path) -> None:
    with claim_instance(tmp_path) as claimed:
        code = "import sys; sys.stdin.read()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[claimed.lock])
    with pytest.raises(AlreadyRunning), claim_instance(tmp_path):
        pass
    child.communicate()
    with claim_instance(tmp_path):
        pass
