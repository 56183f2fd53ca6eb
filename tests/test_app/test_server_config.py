"""How the HTTP server is set up."""

import subprocess
import sys

from tests.process import ROOT

CODE = """
import resource
from app.server_config import allow_connections

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 2000 if most == resource.RLIM_INFINITY else min(most, 2000)))
for connections in (100, 10**6, 1):
    allow_connections(connections)
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_files_are_allowed_for_all_connections_as_far_as_the_machine_lets_us() -> None:
    """In a process of its own: what is lowered cannot be raised again."""
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1124", "2000", "2000"]
