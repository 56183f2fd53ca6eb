"""What /proc tells of a process of this machine; nothing where there is no /proc."""

import os
from pathlib import Path


def peak_rss_mib(pid: int) -> float:
    """The most memory it ever had, MiB. Raises OSError if it is gone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {pid} has no memory any more")


def cpu_seconds(pid: int) -> float:
    """Processor time it has used. Raises OSError if it is gone."""
    # The command's name, in parentheses, may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def has_torch(pid: int) -> bool:
    """Whether torch's libraries are in it. Raises OSError if it is gone."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def child_that_runs(pid: int, module: str) -> int:
    """The child that was started with `-m module`. Raises OSError if there is none."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if module in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
            return int(child)
    raise OSError(f"no child of process {pid} runs {module}")
