"""What the operator's register says of each account."""

from typing import get_args

import msgspec

from contracts.instant import Instant
from runtime.errors import UsageError
from wattbus.access.bundle import Device, Role
from wattbus.access.password import Verifier
from wattbus.access.roles import (
    SERVICES,
    Account,
    Devices,
    house_account,
    operator_account,
    plant_account,
    service_account,
    viewer_account,
)

ROLES: tuple[Role, ...] = get_args(Role)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An identity that counts."""

    number: int
    """The account's first, second, ..."""
    serial: str
    """Of the certificate, in decimal: JSON's numbers are too short for it."""
    code: str
    """The certificate's, as `wattbus install` shows it."""
    verifier: Verifier
    issued_at: Instant


class Brokers(msgspec.Struct, frozen=True, kw_only=True):
    """Where an account finds the brokers; no user in it."""

    readings_url: str = ""
    live_url: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One account."""

    role: Role
    id: str
    """Of the house, the service, the dashboard, the user or the plant."""
    meters: list[str] = []
    ders: dict[str, Device] = {}
    brokers: Brokers
    held: list[Held] = []
    """The newest last; more than one while it changes from one to the next."""

    @property
    def account(self) -> Account:
        """Its name and rights."""
        return account_of(self.role, self.id, Devices(tuple(self.meters), tuple(self.ders)))


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """An identity that no longer counts."""

    account: str
    number: int
    serial: str
    at: Instant


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The register as it stands in its file."""

    entries: dict[str, Entry] = {}
    withdrawn: list[Withdrawn] = []


def account_of(role: Role, identifier: str, devices: Devices = Devices()) -> Account:  # noqa: B008 - immutable
    """The account of a role.

    Raises:
        BadIdError: what should be an id is none.
        UsageError: no such role or service.
    """
    match role:
        case "house":
            return house_account(identifier, devices)
        case "plant":
            return plant_account(identifier)
        case "dashboard":
            return viewer_account(identifier)
        case "operator":
            return operator_account(identifier)
        case _:
            try:
                return service_account(identifier)
            except KeyError as error:
                raise UsageError(
                    f"--service {identifier[:40]!r}: no such service; there are {', '.join(SERVICES)}"
                ) from error
