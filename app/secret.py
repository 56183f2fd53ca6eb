"""The service's secret, and files that only this user may read."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from app.settings import SHORTEST_SECRET, Settings, SettingsError
from database.session import Database
from services.key_service import holds_keys_of

_LOST = (
    "The database's keys were made with this secret: bring it back from a backup, or name its directory by "
    "CHATGLM_DATA_DIR. If it is lost, so are the keys: write random characters into the file, and make keys by "
    "'key create --force'."
)


def load_secret(settings: Settings) -> bytes:
    """What keys are derived from: the setting, or a file of the data directory.

    Raises SettingsError for a file that is not there, or holds no secret.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    path = _path(settings)
    if not path.exists():
        raise SettingsError(f"{path}: there is no such file. {_LOST}")
    secret = path.read_bytes().strip()
    # A disk that was full leaves an empty file: with it, everybody could derive what is derived from the secret.
    if len(secret.decode(errors="ignore")) < SHORTEST_SECRET:
        raise SettingsError(f"{path}: must have at least {SHORTEST_SECRET} characters. {_LOST}")
    return secret


async def secret_of(database: Database, settings: Settings) -> bytes:
    """The same; the file is made for a database that has no keys yet.

    With keys, it would be the wrong one: the data directory is another than the service's, or the file was lost.
    """
    path = _path(settings)
    if settings.secret is None and not path.exists() and await holds_keys_of(database) is None:
        # Another process that starts at the same moment may have been first; then its file counts.
        with suppress(FileExistsError):
            write_private(path, secrets.token_urlsafe(48))
    return load_secret(settings)


def _path(settings: Settings) -> Path:
    return settings.data_dir / "secret"


def write_private(path: Path, text: str) -> None:
    """Write a new file, whole or not at all, that only this user may read. Raises FileExistsError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        os.link(draft, path)
    finally:
        draft.unlink()
