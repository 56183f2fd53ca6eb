"""Tokens that let whoever has them listen to one turn: for browsers, whose event streams cannot send a key."""

import base64
import binascii
import hashlib
import hmac
from datetime import datetime

from app.common.errors import Unauthenticated
from database.clock import EPOCH, now
from database.repositories.key_repository import KeyRepository
from database.session import Database
from services.authentication_service import admitted
from services.principal import Principal

_ID, _TIME, _MAC = 16, 5, 32


class StreamAccess:
    """Makes tokens of a key, and takes them as long as the key itself would be taken."""

    def __init__(self, database: Database, secret: bytes, *former: bytes) -> None:
        """`former`: secrets under which tokens may still be around."""
        self._database = database
        self._keys = [hmac.digest(one, b"chatglm-api: stream token, 1", hashlib.sha256) for one in (secret, *former)]

    def token(self, principal: Principal, turn_id: str, expires_at: datetime) -> str:
        """A token for this turn of the caller's; safe in a URL."""
        expiry = int((expires_at - EPOCH).total_seconds()).to_bytes(_TIME)
        claim = bytes.fromhex(principal.tenant_id) + bytes.fromhex(principal.key_id) + expiry
        return base64.urlsafe_b64encode(claim + _mac(self._keys[0], claim, turn_id)).rstrip(b"=").decode()

    async def tenant(self, token: str, turn_id: str) -> str:
        """The tenant whose turn it is.

        Raises Unauthenticated, in the same words for every cause, or TenantSuspended.
        """
        refusal = Unauthenticated("A valid API key, or the token of a stream_url, is required.")
        tenant_id, key_id = self._read(token, turn_id) or (None, None)
        if tenant_id is None or key_id is None:
            raise refusal
        async with self._database.begin_global() as session:
            found = await KeyRepository(session).with_tenant(key_id)
        if admitted(found, refusal).tenant.id != tenant_id:
            raise refusal
        return tenant_id

    def _read(self, token: str, turn_id: str) -> tuple[str, str] | None:
        """Tenant and key of a token that is ours, for this turn, and not expired."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        claim, mac = raw[:-_MAC], raw[-_MAC:]
        if not any(hmac.compare_digest(mac, _mac(key, claim, turn_id)) for key in self._keys):
            return None
        if int.from_bytes(claim[2 * _ID :]) <= (now() - EPOCH).total_seconds():
            return None
        return claim[:_ID].hex(), claim[_ID : 2 * _ID].hex()


def _mac(key: bytes, claim: bytes, turn_id: str) -> bytes:
    return hmac.digest(key, claim + turn_id.encode(), hashlib.sha256)
