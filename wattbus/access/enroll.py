"""`wattbus enroll`: makes an identity, its rights at the brokers, and the bundle that carries it."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, get_args

from contracts.ids import check_id, refuse_case_twins
from runtime.errors import UsageError
from runtime.flags import OneLineParser
from wattbus.access.bundle import Device, Role
from wattbus.access.operator import parser_of, run
from wattbus.access.records import ROLES, Brokers, Entry
from wattbus.access.roles import SERVICES
from wattbus.access.url import check_url

if TYPE_CHECKING:
    from wattbus.access.desk import Desk
    from wattbus.access.register import Register

USUAL: dict[str, Device] = {
    "battery": "battery_storage",
    "ev": "electric_vehicle",
    "car": "electric_vehicle",
    "pv": "solar_pv",
    "load": "flexible_load",
}
"""What a DER is whose name begins so."""


def main(argv: Sequence[str] | None = None) -> int:
    """Enroll one account or broker; returns the exit code."""
    parser = parser_of(
        "enroll",
        "Makes an identity: a certificate and a password in one bundle file, and its rights at the brokers. "
        "Enrolled again, a house gets a bundle with the devices named now; what it holds already counts on.",
        "house-d --meter main --der battery --readings-url amqps://rabbit.example --live-url mqtts://hive.example",
    )
    _add_who(parser)
    parser.add_argument("--meter", action="append", default=[], metavar="ID", help="a meter of the house")
    parser.add_argument(
        "--der",
        action="append",
        default=[],
        metavar="ID[=TYPE]",
        help=f"a device of the house: {', '.join(get_args(Device))}; {'..., '.join(USUAL)}... need no type",
    )
    parser.add_argument("--readings-url", metavar="URL", help="amqps://HOST or mqtts://HOST [as last time]")
    parser.add_argument("--live-url", metavar="URL", help="mqtts://HOST or wss://HOST [as last time]")
    return run(parser, argv, _enroll)


def _add_who(parser: OneLineParser) -> None:
    who = parser.add_mutually_exclusive_group()  # none of them: --apply tells the brokers what stands
    who.add_argument("house", nargs="?", metavar="HOUSE", help="a house")
    who.add_argument("--service", metavar="NAME", help=f"a service of the centre: {', '.join(SERVICES)}")
    who.add_argument("--dashboard", metavar="NAME", help="who only looks")
    who.add_argument("--operator", metavar="USER", help="a person who may ask for something, in their name")
    who.add_argument("--plant", metavar="PLANT", help="a power plant and its poller")
    who.add_argument(
        "--broker", metavar="HOST,...", help="a broker, by the names and addresses clients call it"
    )


def _enroll(given: argparse.Namespace, desk: "Desk") -> Iterator[str]:
    if given.broker is not None:
        _refuse_useless(given, "--broker", ("meter", "der", "readings_url", "live_url"))
        return desk.certify_broker([host.strip() for host in given.broker.split(",") if host.strip()])
    role = next((role for role in ROLES if getattr(given, role) is not None), None)
    if role is None:
        if not given.apply:
            raise UsageError(
                "say who: a house's name, --service NAME, ...; --apply alone tells the brokers again"
            )
        _refuse_useless(given, "--apply alone", ("meter", "der", "readings_url", "live_url"))
        return desk.publish()
    name = check_id(getattr(given, role), role)
    _refuse_twins(desk.register, role, name)
    if role != "house":
        _refuse_useless(given, f"--{role}", ("meter", "der"))
    elif not (given.meter or given.der):
        raise UsageError("a house needs --meter ID or --der ID, or both")
    meters = _distinct(given.meter, "meter")
    pairs = [_device(text) for text in given.der]
    _distinct([der_id for der_id, _ in pairs], "DER")
    brokers = _brokers(given, desk.register.brokers_of(role))
    return desk.hand_out(Entry(role=role, id=name, meters=meters, ders=dict(pairs), brokers=brokers))


def _refuse_useless(given: argparse.Namespace, who: str, names: Sequence[str]) -> None:
    for name in names:
        if getattr(given, name):
            raise UsageError(f"--{name.replace('_', '-')} is of no use with {who}: leave it out")


def _refuse_twins(register: "Register", role: Role, name: str) -> None:
    """Ids of one role are told apart without their case; a house and a plant are recorded side by side."""
    entries = register.entries.values()
    refuse_case_twins([*(entry.id for entry in entries if entry.role == role), name], role)
    for entry in entries:
        if {entry.role, role} == {"house", "plant"} and entry.id.lower() == name.lower():
            raise UsageError(f"{entry.id} is a {entry.role} already, and recorded by that name: take another")


def _brokers(given: argparse.Namespace, last: Brokers) -> Brokers:
    brokers = Brokers(
        readings_url=given.readings_url or last.readings_url, live_url=given.live_url or last.live_url
    )
    if not brokers.readings_url and not brokers.live_url:
        raise UsageError("give --readings-url and --live-url (one may serve both): where the brokers are")
    for flag, url in (("--readings-url", brokers.readings_url), ("--live-url", brokers.live_url)):
        if url:
            check_url(url, flag)
    return brokers


def _distinct(ids: list[str], what: str) -> list[str]:
    for one in ids:
        check_id(one, what)
    refuse_case_twins(ids, what)
    if len(set(ids)) < len(ids):
        raise UsageError(f"two {what}s of one name: give each its own")
    return ids


def _device(text: str) -> tuple[str, Device]:
    name, separator, kind = text.partition("=")
    for device in get_args(Device):
        if separator and kind == device:
            return name, device
    for start, device in USUAL.items():
        if not separator and name.lower().startswith(start):
            return name, device
    raise UsageError(f"--der {text[:80]!r}: say what it is: ID=TYPE, of {', '.join(get_args(Device))}")


if __name__ == "__main__":
    sys.exit(main())
