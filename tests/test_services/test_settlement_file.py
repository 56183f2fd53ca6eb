"""The file of ends that wait: what was kept is found again, whatever happened to the last line."""

import asyncio
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from database.identifier import new_id
from services.principal import Principal
from services.said_item import SaidItem
from services.settlement import Settlement, settlement
from services.settlement_file import SettlementFile
from tests.turns import a_live_turn, an_end, an_opening

_SOMEBODY = Principal(tenant_id=new_id(), key_id=new_id(), scopes=frozenset())


def _an_end(text: str = "an answer") -> Settlement:
    items = [
        SaidItem(role="user", text="你好 👩‍👩‍👧", parts=(2, 6)),
        SaidItem(role="tool", text="{}", call_id="c", name="f"),
    ]
    turn = a_live_turn(text=text)
    return settlement(turn, an_opening(_SOMEBODY, items=items), an_end(finish_reasons=("stop",)))


def _keep(file: SettlementFile, *ends: Settlement) -> None:
    for end in ends:
        asyncio.run(file.append(end))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "unsettled.journal"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], SettlementFile]]:
    """Opens the file, as a process that starts does."""
    files: list[SettlementFile] = []

    def open_again() -> SettlementFile:
        files.append(SettlementFile(path))
        return files[-1]

    yield open_again
    for file in files:
        file.close()


def test_what_was_kept_is_found_again_in_order_and_equal(opened: Callable[[], SettlementFile]) -> None:
    ends = [_an_end(f"answer {number}") for number in range(3)]
    file = opened()
    _keep(file, *ends)
    assert list(opened().waiting.values()) == ends


def test_what_was_written_is_not_found_again_and_the_last_one_empties_the_file(
    opened: Callable[[], SettlementFile], path: Path
) -> None:
    file, ends = opened(), [_an_end(), _an_end()]
    _keep(file, *ends)
    asyncio.run(file.remove(ends[0].turn_id))
    assert set(file.waiting) == {ends[1].turn_id}
    asyncio.run(file.remove(ends[1].turn_id))
    assert (path.read_bytes(), file.size, dict(opened().waiting)) == (b"", 0, {})


def test_nobody_else_may_read_it(opened: Callable[[], SettlementFile], path: Path) -> None:
    _keep(opened(), _an_end())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_last_line_cut_anywhere_is_forgotten_and_those_before_it_are_not(
    opened: Callable[[], SettlementFile], path: Path
) -> None:
    file, whole, torn = opened(), _an_end(), _an_end()
    _keep(file, whole)
    kept = file.size
    _keep(file, torn)
    content = path.read_bytes()
    for length in range(kept, len(content), 7):
        path.write_bytes(content[:length])
        again = opened()
        assert (set(again.waiting), again.size, again.damaged) == ({whole.turn_id}, kept, 0)
    # What comes after it is not glued to it.
    path.write_bytes(content[:-1])
    _keep(opened(), torn)
    assert set(opened().waiting) == {whole.turn_id, torn.turn_id}


def test_a_damaged_line_is_counted_and_kept_for_people_and_costs_no_other(
    opened: Callable[[], SettlementFile], path: Path
) -> None:
    file, ends = opened(), [_an_end() for _ in range(3)]
    _keep(file, *ends)
    content = bytearray(path.read_bytes())
    middle = file.size // 2
    content[middle] ^= 1
    path.write_bytes(content)
    again = opened()
    assert (set(again.waiting), again.damaged) == ({ends[0].turn_id, ends[2].turn_id}, 1)
    assert path.with_suffix(".refused").read_bytes() == bytes(content).splitlines(keepends=True)[1]


def test_a_full_disk_is_an_error_that_keeps_what_was_there_and_ends_when_there_is_room(
    opened: Callable[[], SettlementFile], path: Path
) -> None:
    file, first, second = opened(), _an_end(), _an_end()
    _keep(file, first)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    # Half of the second one fits.
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.size * 3 // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            _keep(file, second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (path.read_bytes(), file.size, set(file.waiting)) == (before, len(before), {first.turn_id})
    _keep(file, second)
    assert set(opened().waiting) == {first.turn_id, second.turn_id}
