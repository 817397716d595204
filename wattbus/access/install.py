"""`wattbus install`: puts a bundle to work on this machine; needs nothing but the small install."""

import argparse
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from contracts.errors import ContractError
from runtime.clock import SystemClock
from runtime.errors import RuntimeFaultError, StoreError, UsageError
from runtime.flags import OneLineParser
from wattbus.access.bundle import Bundle, read_bundle
from wattbus.access.house_settings import Settings, settings_of
from wattbus.access.identity import CertificateError, holder_of
from wattbus.access.place import CA, CLIENT, Owner, Place, make_folder, put_file, read_file
from wattbus.access.roles import number_of, owner_of
from wattbus.access.unit import Part, is_of, parts_of, unit_text

ROOT = Path("/")
SYSTEMCTL = "/usr/bin/systemctl"
USERADD = "/usr/sbin/useradd"


class Units(NamedTuple):
    """The systemd units of a place."""

    parts: list[Part]
    """What the bundle wants to run."""
    left_over: list[Path]
    """Of devices that the bundle does not name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Check a bundle and write what it stands for; returns the exit code."""
    parser = OneLineParser(
        prog="wattbus install",
        description="Checks a bundle of `wattbus enroll`, and writes settings, certificates and systemd "
        "units. Run it again with the same bundle, or with the next: what you changed in wattbus.toml stays.",
        epilog="example: sudo wattbus install house-d.bundle --start",
    )
    parser.add_argument("bundle", type=Path, metavar="FILE.bundle", help="as the operator gave it to you")
    parser.add_argument(
        "--root",
        type=Path,
        default=ROOT,
        metavar="DIR",
        help="write below this folder, to look or to try [/]",
    )
    parser.add_argument("--start", action="store_true", help="start the services too, or start them anew")
    given = parser.parse_args(argv)
    try:
        with _usual_umask():
            return _install(given)
    except (RuntimeFaultError, ContractError) as error:
        sys.stderr.write(f"wattbus install: {error}\n")
        return error.exit_code if isinstance(error, RuntimeFaultError) else UsageError.exit_code


@contextmanager
def _usual_umask() -> Iterator[None]:
    """Whatever root's is: the folders above ours are for all to pass, and what is secret says so itself."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _install(given: argparse.Namespace) -> int:
    root = given.root.absolute()
    if given.start and root != ROOT:
        raise UsageError("--start goes without --root: what stands in another folder is not this machine's")
    bundle = read_bundle(given.bundle)
    bundle.check(SystemClock().now())
    place = Place(root, bundle.name)
    # All that can be refused is looked at before anything is written.
    _refuse_another(bundle, place)
    settings = settings_of(bundle, place, _present(place.toml))
    units = _units(bundle, place)
    owner = _owner(place.user) if root == ROOT else None
    changed = _write_files(bundle, place, settings, owner)
    changed |= _write_units(units, place, settings.port)
    _remove(units.left_over, has_systemd=root == ROOT)
    _tell(bundle, place, changed=changed)
    _tell_gone(place, settings, units)
    if units.parts and root == ROOT:
        _tell_unreachable()
    if given.start:
        _start(units.parts)
    else:
        _tell_next(units.parts, place, root)
    sys.stdout.write(f"now remove {given.bundle}: it holds the private key\n")
    return 0


def _refuse_another(bundle: Bundle, place: Place) -> None:
    """Whether what stands here already may give way to this bundle.

    Raises:
        CertificateError: it is of another authority, of another account, or a newer one.
    """
    ca, client = place.settings / CA, place.settings / CLIENT
    present = read_file(ca)
    if present is None:
        return
    if present != bundle.authority.encode():
        raise CertificateError(
            f"{ca} is another authority's: if {bundle.id} is now of another site, remove {place.settings}"
        )
    pem = read_file(client)
    if pem is None:
        return
    try:
        user = holder_of(present, pem).account
    except CertificateError:
        return  # damaged: this bundle mends it
    if owner_of(user) != bundle.account:
        raise CertificateError(f"{client} is {user}'s, not {bundle.account}'s: remove {place.settings}")
    if number_of(user) > bundle.number:
        raise CertificateError(f"{client} is newer than this bundle: {user} is there, this is {bundle.user}")


def _units(bundle: Bundle, place: Place) -> Units:
    """The units that a bundle wants, and those of this place that it does not.

    Raises:
        UsageError: a unit of that name is another account's.
    """
    parts = parts_of(bundle)
    wanted = {place.units / part.unit for part in parts}
    for path in sorted(wanted):
        text = _present(path)
        if text is not None and not is_of(text, place):
            raise UsageError(f"{path} is not {bundle.account}'s: remove it, or rename the house or the meter")
    others = sorted({*place.units.glob("wattbus-*.service")} - wanted)
    return Units(parts, [path for path in others if _is_ours(path, place)])


def _is_ours(path: Path, place: Place) -> bool:
    """Whether a unit is this place's; what is a link, or no text, nobody has written here."""
    try:
        text = _present(path)
    except UsageError:
        return False
    return text is not None and is_of(text, place)


def _write_files(bundle: Bundle, place: Place, settings: Settings, owner: Owner | None) -> bool:
    """Returns whether something is different now."""
    make_folder(place.settings, owner)
    # The authority first: what is new is believed before it is used.
    wanted = {
        place.settings / CA: bundle.authority.encode(),
        place.settings / CLIENT: bundle.identity.pem,
        place.toml: settings.text.encode(),
    }
    changed = [put_file(path, content, 0o600, owner) for path, content in wanted.items()]
    return any(changed)


def _write_units(units: Units, place: Place, port: str) -> bool:
    """Returns whether something is different now."""
    texts = {place.units / part.unit: unit_text(part, place, port) for part in units.parts}
    changed = [put_file(path, text.encode(), 0o644) for path, text in texts.items()]
    return any(changed)


def _remove(units: list[Path], *, has_systemd: bool) -> None:
    for unit in units:
        if has_systemd:
            _call([SYSTEMCTL, "disable", "--now", unit.name])
        try:
            unit.unlink()
        except OSError as error:
            raise StoreError(f"{unit}: can't be removed: {error.strerror}") from error
    if units and has_systemd:
        _call([SYSTEMCTL, "daemon-reload"])


def _tell(bundle: Bundle, place: Place, *, changed: bool) -> None:
    holder = holder_of(bundle.authority.encode(), bundle.identity.pem)
    sys.stdout.write(
        f"{bundle.account}: certificate {bundle.identity.code} is in place, "
        f"good until {holder.ends:%Y-%m-%d}\n"
        f"{'written' if changed else 'as it was'}: {place.settings}"
        f"{f', {place.units}' if parts_of(bundle) else ''}\n"
    )


def _tell_gone(place: Place, settings: Settings, units: Units) -> None:
    for unit in units.left_over:
        sys.stdout.write(f"stopped and removed: {unit}: the bundle has no such device\n")
    for table in settings.shelved:
        sys.stdout.write(f"{place.toml}: [{table}] is a comment now: the bundle has no such device\n")


def _tell_next(parts: list[Part], place: Place, root: Path) -> None:
    units = " ".join(part.unit for part in parts)
    if units and root == ROOT:
        sys.stdout.write(
            f"next: systemctl daemon-reload && systemctl enable {units} && systemctl restart {units}\n"
        )
    elif units:
        for part in parts:
            sys.stdout.write(f"to try it here: wattbus {' '.join(part.arguments)} --config {place.toml}\n")


def closed_to_others(python: Path) -> list[Path]:
    """The folders on the way to a Python that let only their owner in; a venv's Python is a link."""
    folders = {*python.parents, *python.resolve().parents}
    return sorted(folder for folder in folders if not folder.stat().st_mode & 0o001)


def _tell_unreachable() -> None:
    if closed := closed_to_others(Path(sys.executable)):
        sys.stdout.write(
            f"careful: {closed[0]} lets nobody else in, and Python is below it: the units can't start it. "
            "Install wattbus elsewhere, as in /opt/wattbus, with the system's Python\n"
        )


def _start(parts: list[Part]) -> None:
    units = [part.unit for part in parts]
    if not units:
        return
    # Anew also where nothing has changed just now: an earlier install may not have started them.
    for words in (["daemon-reload"], ["enable", *units], ["restart", *units]):
        _call([SYSTEMCTL, *words])
    sys.stdout.write(f"started: {' '.join(units)}; look in with: journalctl -f -u 'wattbus-*'\n")


def _owner(user: str) -> Owner:
    """The user's numbers; made first if there is none of that name."""
    if os.geteuid() != 0:
        raise UsageError(
            "only root may write into /etc: run it with sudo, or look at it first with --root DIR"
        )
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        _call([USERADD, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", user])
        entry = pwd.getpwnam(user)
    return Owner(entry.pw_uid, entry.pw_gid)


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, check=False)  # noqa: S603 - our own words, and names of checked ids
    except OSError as error:
        raise RuntimeFaultError(f"{command[0]}: can't be run: {error.strerror}") from error
    if done.returncode:
        raise RuntimeFaultError(f"`{' '.join(command)}` ended with {done.returncode}: it has said why")


def _present(path: Path) -> str | None:
    content = read_file(path)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8: remove it to have it written anew") from error


if __name__ == "__main__":
    sys.exit(main())
