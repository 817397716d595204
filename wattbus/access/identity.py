"""A certificate with its key, and whether they hold: by the standard library alone, for a small install."""

import hashlib
import os
import ssl
from typing import Any, NamedTuple

from contracts.instant import Instant
from runtime.errors import RuntimeFaultError

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME: the dates are compared here, on our clock, and told in our words."""
_TURNS_MAX = 10
"""A handshake takes three."""


class CertificateError(RuntimeFaultError):
    """A certificate or key that is not what it should be; exit code 1."""


class Identity(NamedTuple):
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes

    @property
    def pem(self) -> bytes:
        """Both as one file, so that both change at once."""
        return self.certificate + self.key

    @property
    def code(self) -> str:
        """A short name of the certificate, for people to compare."""
        return code_of(self.certificate)


class Holder(NamedTuple):
    """What a certificate says of who holds it."""

    account: str
    begins: Instant
    ends: Instant

    def days_left(self, now: Instant) -> float:
        """Until it ends [days]."""
        return self.ends.seconds_since(now) / 86400.0


def code_of(certificate: bytes) -> str:
    """The first digits of a certificate's SHA-256 fingerprint, such as `7F3A-91C2`.

    Raises:
        CertificateError: it can't be read.
    """
    try:
        digits = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode())).hexdigest().upper()
    except ValueError as error:
        raise CertificateError(f"a certificate that can't be read: {error}") from error
    return f"{digits[:4]}-{digits[4:8]}"


def holder_of(authority_certificate: bytes, pem: bytes) -> Holder:
    """Whose a certificate is, once its key and its authority have been proved by a handshake with itself.

    Args:
        authority_certificate: as PEM.
        pem: certificate and key.

    Raises:
        CertificateError: the key is another's, or so is the authority.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= _NO_CHECK_TIME
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    try:
        server.load_verify_locations(cadata=authority_certificate.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError("the authority's certificate can't be read") from error
    try:
        _load(server, pem)
        _load(client, pem)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError("the private key is not the certificate's") from error
        raise CertificateError("the certificate or its key can't be read") from error
    return _shake_hands(server, client)


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    # OpenSSL reads a key from files alone: this one is in memory, and ours.
    with os.fdopen(os.memfd_create("identity"), "wb", buffering=0) as file:
        file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")  # no question at the terminal


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> Holder:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    calling = client.wrap_bio(to_client, to_server)
    waiting = [calling, serving]
    try:
        for _ in range(_TURNS_MAX):
            waiting = [side for side in waiting if not _advanced(side)]
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(
            f"the certificate is not of the authority it comes with ({error.verify_message})"
        ) from error
    shown: Any = serving.getpeercert()  # after that handshake it is there
    names = dict(pair for level in shown["subject"] for pair in level)
    begins, ends = (
        Instant.at_ms(ssl.cert_time_to_seconds(shown[key]) * 1000) for key in ("notBefore", "notAfter")
    )
    return Holder(names.get("commonName", ""), begins, ends)


def _advanced(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def check_holder(holder: Holder, account: str, now: Instant) -> None:
    """Whether a certificate is this account's, and counts now.

    Raises:
        CertificateError: it is not, with the reason.
    """
    if holder.account != account:
        raise CertificateError(f"the certificate is {holder.account}'s, not {account}'s")
    if now > holder.ends:
        raise CertificateError(f"the certificate ended on {holder.ends:%Y-%m-%d}: ask for a new bundle")
    if now < holder.begins:
        raise CertificateError(f"the certificate begins on {holder.begins:%Y-%m-%d}: is the clock right?")
