"""API keys as text: how they are made, recognised and hashed."""

import hashlib
import hmac
import re
import secrets
import string
import zlib

PREFIX = "sk-chatglm-"
MINIMUM_LENGTH, MAXIMUM_LENGTH = 32, 512
_ALPHABET = string.digits + string.ascii_letters
_RANDOM, _CHECKSUM = 40, 6
_OURS = re.compile(rf"{re.escape(PREFIX)}[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}")

# What a header can carry, unchanged on its way.
_ANY = re.compile(rf"[!-~][ -~]{{{MINIMUM_LENGTH - 2},{MAXIMUM_LENGTH - 2}}}[!-~]")


def make_key() -> str:
    """A new key: a prefix that secret scanners can find, 238 random bits, a checksum."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return body + _checksum(body)


def may_exist(key: str) -> bool:
    """Whether a key could be stored at all: a malformed one costs no query. A bootstrap key may have any form."""
    if key.startswith(PREFIX):
        return _OURS.fullmatch(key) is not None and _checksum(key[:-_CHECKSUM]) == key[-_CHECKSUM:]
    return _ANY.fullmatch(key) is not None


def display_prefix(key: str) -> str:
    """The first characters, by which people tell keys apart; never more than a sixth of a key."""
    return key[: len(PREFIX) + 4] if key.startswith(PREFIX) else key[:4] + "…"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


class Pepper:
    """The key under which API keys are hashed, derived from the service's secret.

    Attributes:
        id: names the pepper without telling anything of it; stored with each hash.
    """

    def __init__(self, secret: bytes) -> None:
        self._pepper = hmac.digest(secret, b"chatglm-api: key pepper, 1", hashlib.sha256)
        self.id = hmac.digest(self._pepper, b"id", hashlib.sha256).hex()[:16]

    def hash(self, key: str) -> str:
        """HMAC-SHA256 of a key, hex."""
        return hmac.digest(self._pepper, key.encode(), hashlib.sha256).hex()


class Peppers:
    """The pepper for new hashes, and those under which keys may still be stored since the secret was changed."""

    def __init__(self, secret: bytes, *former: bytes) -> None:
        self.current = Pepper(secret)
        self._all = [self.current, *(Pepper(one) for one in former)]

    @property
    def ids(self) -> list[str]:
        """The names of all."""
        return [pepper.id for pepper in self._all]

    def hashes(self, key: str) -> list[str]:
        """Every hash under which this key may be stored."""
        return [pepper.hash(key) for pepper in self._all]
