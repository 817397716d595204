"""The role table as HiveMQ CE takes it, through the extension in examples/hivemq-access.

Its File RBAC extension knows passwords alone, and binds no client id to them. Ours goes by the certificate,
whose common name is the user.
"""

from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from contracts.topics import DeliveryClass
from wattbus.access.identity import CertificateError, Identity
from wattbus.access.roles import Account, Users, checked

FILE = "access.txt"
"""In the extension's own folder; what changes there counts within two seconds."""
_END = "end"
"""Its last line: a file that is cut short is not believed."""
STORE_PASSWORD = "wattbus"  # noqa: S105
"""Of the two stores: Java wants one, but what protects them is their file mode."""


def access_file(users: Users) -> bytes:
    """Who may do what: `user NAME`, then its `client`, `publish`, `retain` and `subscribe` lines.

    What it may `retain` it may publish too; a client id that ends in `*` stands for all that begin so.

    Raises:
        BadIdError: two accounts would be one client.
    """
    lines = [line for account in checked(account for account, _ in users) for line in _rules(account)]
    return "".join(f"{line}\n" for line in (*lines, _END)).encode()


def key_store(server: Identity) -> bytes:
    """The broker's certificate and key, for `<keystore>`: PKCS 12, which Java reads as its own.

    Raises:
        CertificateError: it is not a key of the site's authority.
    """
    certificate = x509.load_pem_x509_certificate(server.certificate)
    key = serialization.load_pem_private_key(server.key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the broker's key is not one that wattbus made")
    return pkcs12.serialize_key_and_certificates(
        b"broker", key, certificate, None, serialization.BestAvailableEncryption(STORE_PASSWORD.encode())
    )


def trust_store(authority_certificate: bytes) -> bytes:
    """Who vouches for the clients, for `<truststore>`."""
    authority = pkcs12.PKCS12Certificate(x509.load_pem_x509_certificate(authority_certificate), b"wattbus")
    encryption = serialization.BestAvailableEncryption(STORE_PASSWORD.encode())
    return pkcs12.serialize_java_truststore([authority], encryption)


def _rules(account: Account) -> Iterator[str]:
    yield f"user {account.name}"
    yield from (f"client {session}" for session in account.sessions)
    for topic in dict.fromkeys(account.rights.publish):
        # A command or a reading that is kept would come again to whoever subscribes later.
        yield f"{'retain' if topic.delivery is DeliveryClass.STATE else 'publish'} {topic.filter}"
    yield from dict.fromkeys(f"subscribe {topic.filter}" for topic in account.rights.subscribes)
