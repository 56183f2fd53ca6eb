"""The service's secret: made when it is first needed, refused when nothing could be derived from it."""

from pathlib import Path

import pytest

from app.secret import load_secret
from app.settings import Settings, SettingsError
from tests.process import environment, run_module


def test_a_secret_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    made = load_secret(settings)
    assert len(made) >= 32
    assert load_secret(settings) == made
    assert (tmp_path / "data" / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("held", [b"", b"\n", b"x" * 31 + b"\n", b"\xff" * 40])
def test_a_file_that_is_no_secret_is_refused_by_its_name(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(held)
    with pytest.raises(SettingsError) as error:
        load_secret(Settings(data_dir=tmp_path))
    assert f"{path}: must have at least 32 characters" in str(error.value)
    assert "xxx" not in str(error.value)
    assert path.read_bytes() == held


def test_a_service_does_not_start_on_an_empty_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    done = run_module("app", "--upgrade", env=environment(tmp_path))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert f"{tmp_path / 'secret'}: must have at least 32 characters" in done.stderr
