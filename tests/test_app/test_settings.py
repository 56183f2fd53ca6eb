"""Settings: from the environment, refused when they cannot be meant."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_setting_has_a_default_that_is_closed_to_the_outside() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8888)
    assert settings.database == "sqlite:///data/chatglm.db"


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHATGLM_PORT=1111\nCHATGLM_HOST=0.0.0.0\n")
    monkeypatch.setenv("CHATGLM_PORT", "2222")
    settings = load_settings()
    assert (settings.host, settings.port) == ("0.0.0.0", 2222)


def test_an_unknown_name_is_an_error_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHATGLM_PROT", "1")
    (tmp_path / ".env").write_text("CHATGLM_HSOT=1\n")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert "CHATGLM_PROT: there is no such setting" in str(error.value)
    assert "CHATGLM_HSOT: there is no such setting" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOOTSTRAP_API_KEY", "x" * 31),
        ("SECRET", "x" * 31),
        ("OLD_SECRETS", "x" * 32 + "," + "y" * 31),
        ("OLD_SECRETS", "x" * 32 + ","),
        ("PURGE_SECONDS", "1"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "not a url"),
        ("TIMEZONE", "Mars/Olympus"),
        ("CORS_ORIGINS", ","),
        ("CORS_ORIGINS", "app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com/"),
        ("CORS_ORIGINS", "https://a.example.com, https://B.example.com"),
        ("ENGINE", "remote"),
        ("PORT", "70000"),
        ("ROOT_PATH", "api/"),
        ("SCRIPTED_RATE", "nan"),
        ("OTLP_ENDPOINT", "collector:4318"),
        ("METRICS_TOKEN", "x" * 31),
    ],
)
def test_a_bad_value_is_named_but_never_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CHATGLM_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert f"CHATGLM_{name}" in str(error.value)
    if "KEY" in name or "SECRET" in name:
        assert value not in str(error.value)


def test_postgresql_needs_a_secret_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATGLM_DATABASE_URL", "postgresql://localhost/x")
    with pytest.raises(SettingsError, match="CHATGLM_SECRET"):
        load_settings()


def test_traces_are_refused_where_nothing_could_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATGLM_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert load_settings().otlp_endpoint == "http://127.0.0.1:4318"
    monkeypatch.setattr("app.urls.find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"CHATGLM_OTLP_ENDPOINT.*\[otel\]"):
        load_settings()


def test_secrets_are_not_shown_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATGLM_SECRET", "very secret " * 4)
    monkeypatch.setenv("CHATGLM_DATABASE_URL", "postgresql://u:hidden@localhost/x")
    assert "very secret" not in repr(load_settings())
    assert "hidden" not in repr(load_settings())


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_settings().port = 1  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_names_of_others_in_the_file_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=x\nHF_ENDPOINT=https://example.com\nCHATGLM_PORT=1111\n")
    assert load_settings().port == 1111


def test_old_secrets_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().former_secrets == []
    monkeypatch.setenv("CHATGLM_OLD_SECRETS", "x" * 32 + ", " + "y" * 40)
    assert load_settings().former_secrets == [b"x" * 32, b"y" * 40]
    assert "yyy" not in repr(load_settings())


@pytest.mark.parametrize("empty", ["", " "])
def test_a_list_that_is_empty_has_nothing_in_it(monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    # As files of environments, and Compose's, have what is not set.
    monkeypatch.setenv("CHATGLM_OLD_SECRETS", empty)
    monkeypatch.setenv("CHATGLM_CORS_ORIGINS", empty)
    settings = load_settings()
    assert (settings.former_secrets, settings.origins) == ([], [])
