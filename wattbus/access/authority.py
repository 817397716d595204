"""The site's own certificate authority: who it vouches for, until when, and whom it has taken that back from.

Elliptic curve keys (P-256), as every TLS library of the last ten years takes them.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contracts.instant import Instant
from wattbus.access.identity import CertificateError, Identity

AUTHORITY_DAYS = 3650
CLIENT_DAYS = 825
"""After that a house needs a new one: `wattbus rotate` in time; `wattbus check` warns 30 days before."""
SERVER_DAYS = 397
"""The longest that public authorities may give a server, and long enough."""
CRL_DAYS = 3650
"""A list that has run out would shut everybody out; a newer one replaces it at each change."""
BACKDATED = timedelta(hours=1)
"""A house's clock may be late."""
_NAME_MAX = 64
"""Letters of a common name."""
_HOST_MAX = 253
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"\A{_LABEL}(?:\.{_LABEL})*\Z", re.ASCII)


class Revoked(NamedTuple):
    """A certificate that no longer counts."""

    serial: int
    at: Instant


def new_authority(site: str, now: Instant) -> Identity:
    """A certificate authority of one's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"wattbus {site}"[:_NAME_MAX])])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Identity(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def serial_of(identity: Identity) -> int:
    """The number by which its authority knows a certificate."""
    return x509.load_pem_x509_certificate(identity.certificate).serial_number


def client_identity(authority: Identity, account: str, now: Instant) -> Identity:
    """A client's: the account is its common name, by which the brokers know it."""
    return _issue(authority, account, now, CLIENT_DAYS, ExtendedKeyUsageOID.CLIENT_AUTH, ())


def server_identity(authority: Identity, hosts: Sequence[str], now: Instant) -> Identity:
    """A broker's: the names and addresses by which clients call it.

    Raises:
        CertificateError: no host at all, or what is none.
    """
    if not hosts:
        raise CertificateError("a broker's certificate needs the names or addresses clients call it by")
    for host in hosts:
        if not _is_address(host) and (len(host) > _HOST_MAX or not _HOST.match(host)):
            raise CertificateError(f"{host[:80]!r} is no name or address of a host, such as rabbit.example")
    return _issue(authority, hosts[0][:_NAME_MAX], now, SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, hosts)


def revocation_list(authority: Identity, revoked: Iterable[Revoked], now: Instant) -> bytes:
    """The certificates that no longer count, signed, as PEM."""
    issuer, key = _load(authority)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATED)
        .next_update(now.after(CRL_DAYS * 86400.0))
        .add_extension(x509.CRLNumber(now.unix_ms), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.at)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _issue(
    authority: Identity,
    name: str,
    now: Instant,
    days: int,
    purpose: x509.ObjectIdentifier,
    hosts: Sequence[str],
) -> Identity:
    issuer, authority_key = _load(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, issuer.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return Identity(_pem(builder.sign(authority_key, hashes.SHA256())), _key_pem(key))


def _load(authority: Identity) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.certificate)
        key = serialization.load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"the authority's certificate or key can't be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is not one that wattbus made")
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: Instant, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now.after(days * 86400.0))
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(host)) if _is_address(host) else x509.DNSName(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # a zone is of one machine, and may hold any letters


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
