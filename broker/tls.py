"""TLS to a broker: what its URL says of certificates, and what a connection that fails for them means."""

import ssl
from collections.abc import Mapping

from broker.errors import BusUrlError

FILES = ("ca", "cert", "key")
"""A URL's options: who vouches for the broker, and who we are."""

_EXPIRED = 10
"""X509_V_ERR_CERT_HAS_EXPIRED."""
_OTHER_NAME = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_NOT_OURS = "it does not accept our certificate: is there a ?cert=FILE, of this site and in its time?"
"""Java says no more than that."""
_REASONS = {
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks no TLS that is 1.2 or newer",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS that is 1.2 or newer",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know who signed our certificate: is ?cert=FILE this site's?",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired: get a new one, or set the clock right",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "our certificate has been revoked: get a new one",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _NOT_OURS,
    "SSLV3_ALERT_BAD_CERTIFICATE": _NOT_OURS,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it wants a certificate: give ?cert=FILE&key=FILE",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate: give ?cert=FILE&key=FILE",
}


class TlsSocket(ssl.SSLSocket):
    """Closes itself when its handshake fails, and keeps what went wrong: paho forgets both."""

    failure: ssl.SSLError | None = None

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's signature
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        # With TLS 1.3 the broker says what it thinks of our certificate after the handshake.
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:
            self.failure = error
            raise


def context_of(where: str, files: Mapping[str, str]) -> ssl.SSLContext:
    """TLS 1.2 or newer that checks the broker's certificate and its name.

    Raises:
        BusUrlError: a file can't be read, or is not what it should be.
    """
    if "key" in files and "cert" not in files:
        raise BusUrlError(f"{where}: ?key= is of a certificate: give ?cert= too")
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = TlsSocket
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except OSError as error:
        raise BusUrlError(f"{where}: ?ca=, ?cert= or ?key= can't be used: {error.strerror}") from error
    return context


def what_failed(error: BaseException | None) -> str | None:
    """What a broker or we do not like, which waiting does not change, and what to do about it; or None."""
    seen: set[int] = set()  # a library's errors may name each other in a circle
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ssl.SSLCertVerificationError):
            what = error.verify_message.rstrip(".")
            if error.verify_code in _OTHER_NAME:
                return f"its certificate is another broker's ({what}): name it as its certificate does"
            if error.verify_code == _EXPIRED:
                return "its certificate has expired: give it a new one, or set the clock right here"
            return f"its certificate is not trusted ({what}): give ?ca=FILE"
        if isinstance(error, ssl.SSLError) and error.reason is not None:
            return _REASONS.get(error.reason)
        error = error.__cause__ or error.__context__
    return None
