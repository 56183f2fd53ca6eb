"""The benchmark of copying measures what it says: a small one, there and back."""

import pytest

from benchmarks import data_migration


def test_a_small_database_is_copied_there_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert data_migration.main(["--turns", "200", "--kills", "0"]) == 0
    there, back = capsys.readouterr().out.splitlines()[-2:]
    # Tenants, keys, usage and the audit log's entries beside 40 conversations, 200 turns and texts, and 400 items.
    assert int(there.split("|")[2]) > 840
    assert int(back.split("|")[2]) > 840
