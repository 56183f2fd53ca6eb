"""The service's secret, and files that only this user may read."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from app.settings import SHORTEST_SECRET, Settings, SettingsError


def load_secret(settings: Settings) -> bytes:
    """What keys are derived from: the setting, or a file of the data directory, made when it is first needed.

    Raises SettingsError for a file that holds no secret.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    path = settings.data_dir / "secret"
    if not path.exists():
        # Another process that starts at the same moment may have been first; then its file counts.
        with suppress(FileExistsError):
            write_private(path, secrets.token_urlsafe(48))
    return _read(path)


def _read(path: Path) -> bytes:
    secret = path.read_bytes().strip()
    # A disk that was full leaves an empty file: with it, everybody could derive what is derived from the secret.
    if len(secret.decode(errors="ignore")) < SHORTEST_SECRET:
        raise SettingsError(
            f"{path}: must have at least {SHORTEST_SECRET} characters. Bring it back from a backup; without it, every "
            "key is void, and a new one is made once the file is gone."
        )
    return secret


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
