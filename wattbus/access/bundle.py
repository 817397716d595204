"""A bundle: the one file that carries an identity and its settings from the operator to where it is used."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.errors import ContractError
from contracts.ids import Id, check_id, refuse_case_twins, refuse_reserved
from contracts.instant import Instant
from runtime.errors import RuntimeFaultError, UsageError
from wattbus.access.identity import Identity, check_holder, holder_of
from wattbus.access.url import check_url

BYTES_MAX = 100_000

Pem = Annotated[str, Meta(max_length=20_000)]
Url = Annotated[str, Meta(max_length=1000)]
Device = Literal["battery_storage", "electric_vehicle", "solar_pv", "flexible_load"]


Role = Literal["house", "service", "plant", "dashboard", "operator"]


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one account needs to take its place on the bus; secret: it holds the private key."""

    wattbus_bundle: Literal[1] = 1
    role: Role
    id: Id
    number: Annotated[int, Meta(ge=1)]
    """The account's first identity, its second, ..."""
    meters: Annotated[list[Id], Meta(max_length=100)] = []
    ders: dict[Id, Device] = {}
    readings_url: Url
    """Of the brokers, with no user in it."""
    live_url: Url
    login: Annotated[str, Meta(pattern=r"\A(?:\{client\}|[A-Za-z0-9._-]){1,100}\Z")]
    """The user in an MQTT broker's URL; `{client}` in it stands for the client id."""
    password: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,200}\Z")]
    """Where a broker can't tell a house by its certificate."""
    authority: Pem
    certificate: Pem
    key: Pem
    digest: str = ""
    """Of all the rest: what was damaged on its way is found out."""

    @property
    def account(self) -> str:
        """Whose it is, such as `house.house-d`."""
        return f"{self.role}.{self.id}"

    @property
    def name(self) -> str:
        """Of its file and its folders: a house's is its own."""
        return self.id if self.role == "house" else self.account

    @property
    def user(self) -> str:
        """By which name the brokers know it."""
        return user_of(self.account, self.number)

    @property
    def identity(self) -> Identity:
        """The certificate and its key."""
        return Identity(self.certificate.encode(), self.key.encode())

    def check(self, now: Instant) -> None:
        """Whether everything in it fits together, and counts now.

        Raises:
            CertificateError: the certificate is another's, another authority's, or out of its time.
        """
        holder = holder_of(self.authority.encode(), self.identity.pem)
        check_holder(holder, self.user, now)


def user_of(account: str, number: int) -> str:
    """The brokers' name for one identity of an account: an id has no dot, so no two are alike."""
    return account if number == 1 else f"{account}.{number}"


def encode_bundle(bundle: Bundle) -> bytes:
    """As it stands in its file."""
    sealed = msgspec.structs.replace(bundle, digest=_digest(bundle))
    return msgspec.json.format(msgspec.json.encode(sealed), indent=1) + b"\n"


def read_bundle(path: Path) -> Bundle:
    """The bundle in a file; `check` it before it is used.

    Raises:
        UsageError: it can't be read, is no bundle, or is not as it was written.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from error
    if len(content) > BYTES_MAX:
        raise UsageError(f"{path}: no bundle: it is too large for one")
    try:
        bundle = msgspec.json.decode(content, type=Bundle)
        _check(bundle)
    except (msgspec.DecodeError, ContractError, UnicodeDecodeError, RuntimeFaultError) as error:
        # Its words name fields and positions, never what stands in them.
        raise UsageError(f"{path}: no bundle, or damaged on its way: {error}") from error
    if bundle.digest != _digest(bundle):
        raise UsageError(f"{path}: damaged on its way, or changed by hand: copy it again")
    return bundle


def _check(bundle: Bundle) -> None:
    check_id(bundle.id, bundle.role)
    if bundle.role == "house":
        refuse_reserved(bundle.id)
    for what, devices in (("meter", bundle.meters), ("DER", list(bundle.ders))):
        for device in devices:
            check_id(device, what)
        refuse_case_twins(devices, what)
    # As at enrolment: the digest tells damage, not who has made the bundle.
    urls = {"readings_url": bundle.readings_url, "live_url": bundle.live_url}
    named = {what: url for what, url in urls.items() if url}
    if not named:
        raise UsageError("it names no broker")
    for what, url in named.items():
        check_url(url, what)


def _digest(bundle: Bundle) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(bundle, digest=""))).hexdigest()
