"""The administrator's command lines, run in the test's own process."""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from database.engine import create_engine
from database.session import Database
from services.authentication_service import AuthenticationService
from services.key_token import Peppers
from services.principal import Principal
from tools.admin import __main__ as admin

SECRET = "a secret of the tests, long enough"


class Ended(NamedTuple):
    status: int
    output: str
    errors: str


class Command:
    """Runs commands as `python -m MODULE` does, in this process."""

    def __init__(
        self,
        module: str,
        main: Callable[[], None],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._module = module
        self._main = main
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", [self._module, *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            self._main()
        output, errors = self._capsys.readouterr()
        return Ended(int(end.value.code or 0), output, errors)

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        ended = self(*arguments, "--json")
        assert ended.status == 0, ended
        return rows_of(ended)


def rows_of(ended: Ended) -> list[dict[str, Any]]:
    rows = json.loads(ended.output)
    assert isinstance(rows, list)
    return rows


class Admin(Command):
    """`python -m tools.admin`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__("tools.admin", admin.main, monkeypatch, capsys)


def authenticated(url: str, key: str) -> Principal:
    async def authenticate() -> Principal:
        database = Database(create_engine(url))
        try:
            return await AuthenticationService(database, Peppers(SECRET.encode())).authenticate(key)
        finally:
            await database.close()

    return asyncio.run(authenticate())


def cells(table: str) -> set[str]:
    return {cell.strip() for line in table.splitlines() for cell in line.replace("┃", "│").split("│")}


def assert_refused(ended: Ended, sentence: str) -> None:
    assert (ended.status, ended.output) == (1, "")
    assert sentence in ended.errors
    assert "Traceback" not in ended.errors
    assert "hush" not in ended.errors
