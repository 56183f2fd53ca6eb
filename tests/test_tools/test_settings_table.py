"""The documents' table of settings is what the code says."""

from pathlib import Path

import pytest

from app.settings import Settings
from tools.settings_table import main, settings_table, with_table

_BEGIN, _END = "<!-- settings: generated -->", "<!-- settings: end -->"
_STALE = f"# Title\n\n{_BEGIN}\nold\n{_END}\n\nthe rest\n"


def _lines() -> dict[str, str]:
    return {line.split("`")[1]: line for line in settings_table().splitlines()[2:]}


def test_every_setting_has_a_line_with_its_description() -> None:
    lines = _lines()
    assert list(lines) == [f"CHATGLM_{name.upper()}" for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        assert field.description
        assert lines[f"CHATGLM_{name.upper()}"].endswith(f"| {field.description} |")


def test_every_line_has_three_cells() -> None:
    assert {line.count("|") for line in settings_table().splitlines()} == {4}


@pytest.mark.parametrize(
    ("setting", "default"),
    [
        ("PORT", "`8888`"),
        ("ROOT_PATH", "empty"),
        ("SECRET", ""),
        ("DATABASE_URL", ""),
        ("CACHE_DIR", ""),
        ("DATA_DIR", "`data`"),
    ],
)
def test_defaults_are_shown_unless_there_are_none_or_they_are_this_machines(setting: str, default: str) -> None:
    assert _lines()[f"CHATGLM_{setting}"].split("|")[2].strip() == default


def test_the_table_stands_between_the_marks_and_nothing_else_changes() -> None:
    assert with_table(_STALE) == f"# Title\n\n{_BEGIN}\n{settings_table()}\n{_END}\n\nthe rest\n"
    assert with_table(with_table(_STALE)) == with_table(_STALE)


@pytest.mark.parametrize("text", ["", _BEGIN, _END, f"{_END}{_BEGIN}"])
def test_a_document_without_the_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="there is no"):
        with_table(text)


def test_checking_names_what_is_out_of_date_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale, fresh = tmp_path / "stale.md", tmp_path / "fresh.md"
    stale.write_text(_STALE, encoding="utf-8")
    fresh.write_text(with_table(_STALE), encoding="utf-8")
    assert main(["--check", str(stale), str(fresh)]) == 1
    assert stale.read_text(encoding="utf-8") == _STALE
    errors = capsys.readouterr().err
    assert str(stale) in errors
    assert str(fresh) not in errors


def test_what_was_written_passes_the_check(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(_STALE, encoding="utf-8")
    assert main([str(document)]) == 0
    assert document.read_text(encoding="utf-8") == with_table(_STALE)
    assert main(["--check", str(document)]) == 0
