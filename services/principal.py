"""Who is calling."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key may do."""

    CHAT = "chat"
    HISTORY_READ = "history:read"
    HISTORY_DELETE = "history:delete"
    ADMIN = "admin"


TENANT_SCOPES = frozenset({Scope.CHAT, Scope.HISTORY_READ, Scope.HISTORY_DELETE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller whose key was checked. Only `AuthenticationService.authenticate` makes one.

    Attributes:
        models: the models the key may use, by the names clients see; None for all.
        keeps_content: whether the tenant's prompts and answers are stored.
        weight: the tenant's part of the engine when others want it too.
        max_places: how many places of the engine's queue the tenant may hold at once; None for what the queue allows.
        shares_limits_of: the key whose limits this one shares, since it was made of it by rotation.
    """

    tenant_id: str
    key_id: str
    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    keeps_content: bool = True
    weight: float = 1.0
    max_places: int | None = None
    shares_limits_of: str | None = None

    @property
    def limit_subject(self) -> str:
        """What the limits of the key are kept under."""
        return self.shares_limits_of or self.key_id
