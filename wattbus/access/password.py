"""Passwords, where a broker goes by them: made here, kept as what verifies them."""

import base64
import hashlib
import secrets

import msgspec

_BYTES = 32
"""Nobody guesses these: no slow hash is needed, and a broker that restarts checks all of them at once."""
_ROUNDS = 101
"""As mosquitto_passwd does it."""


class Verifier(msgspec.Struct, frozen=True, kw_only=True):
    """What tells a right password from a wrong one, in each broker's own form."""

    rabbitmq: str
    """Base64 of a salt of 4 bytes and SHA-256 of salt and password."""
    mosquitto: str
    """`$7$rounds$salt$hash`, PBKDF2 of SHA-512."""


def new_password() -> str:
    """One that fits into a URL as it is."""
    return secrets.token_urlsafe(_BYTES)


def verifier_of(password: str) -> Verifier:
    """What the brokers are given in its place."""
    secret = password.encode()
    salt = secrets.token_bytes(4)
    long_salt = secrets.token_bytes(12)
    slow = hashlib.pbkdf2_hmac("sha512", secret, long_salt, _ROUNDS)
    return Verifier(
        rabbitmq=_base64(salt + hashlib.sha256(salt + secret).digest()),
        mosquitto=f"$7${_ROUNDS}${_base64(long_salt)}${_base64(slow)}",
    )


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
