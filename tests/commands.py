"""Commands as documents name them: whether they exist, and take the arguments they are given."""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

from typer.main import get_command

from tools.admin.__main__ import cli as admin
from tools.data_migration.__main__ import cli as data_migration

REPOSITORY = Path(__file__).parent.parent
_COMMAND_LINES = {"tools.admin": admin, "tools.data_migration": data_migration}
_MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
_QUOTED = re.compile(r'"python", "-m", ("[^\]]*")\]')
_SHELL = re.compile(r"python3? -m ([a-z][\w.]*[^`\n;|&#>）。，]*)")


def argument_lists(text: str) -> list[list[str]]:
    """What follows `python -m` in a text: in shell commands, in code spans and in exec form."""
    found = [re.findall(r'"([^"]*)"', words) for words in _QUOTED.findall(text)]
    found += [shlex.split(words.replace("…", " ")) for words in _SHELL.findall(text)]
    return [list(words) for words in dict.fromkeys(map(tuple, found))]


def check_command(arguments: list[str]) -> None:
    """Fails unless the module can be run and, if it is ours, takes these arguments."""
    module, *rest = arguments
    if module in _COMMAND_LINES:
        _check_typer(module, rest)
        return
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no module {module}"
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{module}.__main__") is not None, f"{module} cannot be run"
    if module.partition(".")[0] in {"app", "tools", "benchmarks"} and rest:
        assert f"-m {' '.join(arguments)}" in _MAKEFILE, f"the Makefile does not run {arguments}"


def _check_typer(module: str, words: list[str]) -> None:
    command: Any = get_command(_COMMAND_LINES[module])
    context = command.make_context(module, [], resilient_parsing=True)
    while words and not words[0].startswith("-") and hasattr(command, "get_command"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{words[0]} is no command of {context.command_path}"
        command, words = found, words[1:]
        context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
    if not hasattr(command, "get_command") and "--help" not in words:
        # Parses as the command line would, and raises for an unknown option or a missing argument; runs nothing.
        command.make_context(command.name, list(words))
