"""Settings: `CHATGLM_…` from the environment or `.env`. Read here, in `migrations/env.py` and in `tools` only."""

import os
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.urls import collector_url, listed_origins
from database.engine import database_url
from services.inference.pulse import LONGEST_SILENCE

PREFIX = "CHATGLM_"
ENV_FILE = ".env"
SHORTEST_SECRET = 32


class SettingsError(Exception):
    """The settings cannot be used; the message names each, a line each, without its value."""


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "chatglm-api"


class Settings(BaseSettings):
    """Every setting, with its default; each field's description is the documentation."""

    # What else is in .env is somebody else's; an unknown name with our prefix is found by `load_settings`.
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=ENV_FILE, extra="ignore", frozen=True)

    env: Literal["production", "development"] = Field(
        "production",
        description="`development` lets the service use PostgreSQL under a role that row level security does not bind.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8888, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    root_path: str = Field("", description="Path prefix under which a reverse proxy serves this service.")
    trusted_proxies: str = Field(
        "127.0.0.1", description="Addresses or networks, comma-separated, whose `X-Forwarded-*` headers are believed."
    )
    cors_origins: Annotated[str, AfterValidator(listed_origins)] | None = Field(
        None,
        description="Origins of web pages, comma-separated, whose scripts may call this service, such as "
        "`https://app.example.com`; `*` for all. Default: none.",
    )
    data_dir: Path = Field(
        Path("data"),
        description="Where this service keeps its files: the SQLite database, the secret, the first key, and answers "
        "that wait for a database that is away.",
    )
    cache_dir: Path = Field(
        default_factory=_cache_dir,
        description="Where converted models are kept; may be deleted. Default: `~/.cache/chatglm-api`.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="`postgresql://user:password@host/name` or `sqlite:///path`. Default: `chatglm.db` in the data "
        "directory.",
    )
    migration_database_url: SecretStr | None = Field(
        None,
        description="The same database under the role that may change its schema. Default: `CHATGLM_DATABASE_URL`.",
    )
    database_pool: int = Field(10, ge=2, le=1000, description="PostgreSQL connections at the most.")
    database_seconds: float = Field(
        10.0,
        ge=0.5,
        le=300,
        description="Longest wait for a connection of the database, and for each statement and its locks, in seconds.",
    )
    secret: SecretStr | None = Field(
        None,
        description="At least 32 random characters, from which keys are derived; the same on all replicas. With SQLite "
        "a file in the data directory is made; with PostgreSQL it must be set.",
    )
    old_secrets: SecretStr | None = Field(
        None,
        description="Former values of `CHATGLM_SECRET`, and the next one before it is used, comma-separated: their "
        "keys are valid too, and each moves to `CHATGLM_SECRET` when it is next used.",
    )
    bootstrap_api_key: SecretStr | None = Field(
        None, description="The first API key, at least 32 characters; used only while there is no tenant and never was."
    )
    model: str = Field(
        "auto",
        description="A directory or a hub id. `auto`: `zai-org/chatglm3-6b` where there is CUDA, otherwise `demo`. "
        "`demo`: the small bundled English model.",
    )
    model_revision: str | None = Field(None, description="Branch, tag or commit of a hub id.")
    model_name: str | None = Field(None, description="The name clients see. Default: the last part of the model.")
    engine: Literal["native", "scripted"] = Field(
        "native", description="`native` generates with the model; `scripted` answers from a script, for development."
    )
    engine_socket: Path | None = Field(
        None, description="Unix socket of an engine that was started on its own. Default: the service starts one."
    )
    scripted_rate: float = Field(
        50.0, gt=0, le=100_000, description="Tokens a second of each answer of the scripted engine."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads of the engine. Default: all cores but one."
    )
    attention: Literal["auto", "flash", "mixed", "triton", "sdpa"] = Field(
        "auto",
        description="How the model attends. `auto` takes the first of these that runs: `mixed` (FlashAttention-3 for "
        "prompts, `triton` for answers), `flash` (FlashAttention-3 for both), `triton` (a kernel of this service), "
        "`sdpa` (plain torch; all there is on a CPU).",
    )
    max_running: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Answers generated at once. Default: 16 on a CPU; on a GPU up to 256, as its memory allows.",
    )
    max_queued: int = Field(
        64, ge=0, le=100_000, description="Requests that may wait for a place; more are refused (503)."
    )
    max_queued_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens, prompts and longest answers, of all requests that run or wait; a request beyond that is "
        "refused (503) unless it is the only one. Default: 2,048 for each request that may run or wait.",
    )
    step_seconds: float | None = Field(
        None,
        ge=2,
        le=86_400,
        description="After how long without a step the engine counts as hung while it has work: it is killed and "
        "started again. Default: 120 on a GPU, 600 on a CPU.",
    )
    queue_seconds: float = Field(30.0, gt=0, le=3600, description="Longest wait for a place, in seconds.")
    unheard_seconds: float = Field(
        600.0,
        ge=1,
        le=86_400,
        description="How long a background turn runs on after its last listener left, in seconds.",
    )
    stream_url_seconds: float = Field(
        3600.0, ge=1, le=86_400, description="How long a `stream_url` is valid, in seconds."
    )
    default_max_tokens: int = Field(1024, ge=1, description="New tokens at the most when a request does not say.")
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="Largest request body.")
    max_connections: int = Field(
        4096, ge=1, le=1_000_000, description="Clients connected at once; more are refused (503)."
    )
    head_seconds: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="How long the head of a request may take to arrive, and the longest pause in its body (408).",
    )
    body_seconds: float = Field(
        120.0, gt=0, le=86_400, description="How long the body of a request may take to arrive (408)."
    )
    keep_alive_seconds: float = Field(
        75.0, gt=0, le=3600, description="How long a connection is kept for the next request."
    )
    unread_seconds: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="After how long a client is taken for gone that reads nothing of its answer.",
    )
    # Longer than a turn may wait for the engine and the database before its lease is written.
    lease_seconds: float = Field(
        30.0,
        ge=30,
        le=3600,
        description="After how long without a sign of life a process's turns are interrupted.",
    )
    purge_seconds: float = Field(
        3600.0, ge=60, le=86_400, description="How often what tenants no longer want kept is deleted."
    )
    purge_batch: int = Field(
        500,
        ge=1,
        le=10_000,
        description="Turns or conversations that a purge or an erasure deletes in one transaction.",
    )
    shutdown_seconds: int = Field(30, ge=0, le=3600, description="How long running answers may finish after SIGTERM.")
    timezone: str | None = Field(
        None, description="Zone of `time` in `/chat` answers and of times without an offset. Default: the machine's."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="How it is written; `auto`: as text on a terminal, elsewhere a JSON object on each line."
    )
    metrics_token: SecretStr | None = Field(
        None,
        description="Opens `/metrics` to Prometheus, which sends it as `Authorization: Bearer …`; at least 32 "
        "characters. Default: closed.",
    )
    otlp_endpoint: Annotated[str, AfterValidator(collector_url)] | None = Field(
        None, description="Where OpenTelemetry's collector takes traces: `http://host:4318`. Needs the extra `otel`."
    )

    @field_validator("secret", "bootstrap_api_key", "metrics_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(f"must have at least {SHORTEST_SECRET} characters")
        return value

    @field_validator("old_secrets")
    @classmethod
    def _each_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        for secret in _parts(value):
            cls._long_enough(SecretStr(secret))
        return value

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _known_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            database_url(value.get_secret_value())
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        try:
            return value and ZoneInfo(value).key
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("there is no such time zone") from error

    @field_validator("root_path")
    @classmethod
    def _clean_prefix(cls, value: str) -> str:
        if value and (not value.startswith("/") or value.endswith("/")):
            raise ValueError("must begin with / and not end with it")
        return value

    @model_validator(mode="after")
    def _secret_is_shared(self) -> "Settings":
        if self.secret is None and not self.uses_sqlite:
            raise ValueError(
                f"{PREFIX}SECRET must be set with PostgreSQL: replicas with secrets of their own refuse keys"
            )
        return self

    @property
    def engine_silence(self) -> float:
        """Seconds without any sign of life of the engine's process after which it counts as lost."""
        return min(LONGEST_SILENCE, self.step_seconds or LONGEST_SILENCE)

    @property
    def former_secrets(self) -> list[bytes]:
        """The values that `CHATGLM_SECRET` had, or is to have."""
        return [secret.encode() for secret in _parts(self.old_secrets)]

    @property
    def origins(self) -> list[str]:
        """The origins whose pages may call."""
        return _parts(self.cors_origins)

    @property
    def database(self) -> str:
        """The database's URL."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'chatglm.db'}"
        return self.database_url.get_secret_value()

    @property
    def migration_database(self) -> str:
        """The URL under which the schema is changed."""
        return self.database if self.migration_database_url is None else self.migration_database_url.get_secret_value()

    @property
    def uses_sqlite(self) -> bool:
        """Whether the database is a file of this machine."""
        return database_url(self.database).get_backend_name() == "sqlite"


def _parts(listed: SecretStr | str | None) -> list[str]:
    text = listed.get_secret_value() if isinstance(listed, SecretStr) else listed
    return [part.strip() for part in text.split(",")] if text and text.strip() else []


def load_settings() -> Settings:
    """The settings of this process. Raises SettingsError, which names every setting at fault."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    given = {*os.environ, *(name.upper() for name in dotenv_values(ENV_FILE))}
    unknown = sorted(name for name in given if name.startswith(PREFIX) and name not in known)
    problems = [f"{name}: there is no such setting" for name in unknown]
    try:
        settings = Settings()
    except ValidationError as error:
        for issue in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in issue["loc"]).upper()
            problems.append(f"{PREFIX}{name}: {issue['msg']}" if name else issue["msg"])
        raise SettingsError("\n".join(problems)) from None
    if problems:
        raise SettingsError("\n".join(problems))
    return settings
