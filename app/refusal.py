"""What keeps the service or a command from its work and can be put right: said in a sentence, without a traceback."""

from alembic.util import CommandError

from app.common.errors import AppError
from app.instance import AlreadyRunning
from app.settings import SettingsError
from database.outage import told


class CannotStart(Exception):
    """Something the administrator has to put right; the message says what."""


def refusal(error: Exception) -> str | None:
    """The sentence for whoever administers the service; None for a defect, of which only a traceback tells enough."""
    if isinstance(error, OSError) and str(error):
        return f"{error.filename}: {error.strerror}." if error.filename else str(error)
    answer = told(error)
    if isinstance(answer, AppError):
        return f"{answer} It says: {answer.reason}" if answer.reason else str(answer)
    return str(answer) if isinstance(answer, SettingsError | CannotStart | AlreadyRunning | CommandError) else None
