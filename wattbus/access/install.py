"""`wattbus install`: puts a bundle to work on this machine; needs nothing but the small install."""

import argparse
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from contracts.errors import ContractError
from contracts.ids import check_id
from runtime.clock import SystemClock
from runtime.errors import RuntimeFaultError, StoreError, UsageError
from runtime.flags import OneLineParser
from runtime.store import replace_file
from wattbus.access.bundle import Bundle, read_bundle
from wattbus.access.house_settings import CA, CLIENT, settings_text
from wattbus.access.identity import CertificateError, holder_of
from wattbus.access.unit import Part, parts_of, unit_text

ROOT = Path("/")
SYSTEMCTL = "/usr/bin/systemctl"
USERADD = "/usr/sbin/useradd"


class Place(NamedTuple):
    """Where an account lives on a machine."""

    root: Path
    name: str
    """Of its folders: a house's id, else its account."""

    @property
    def settings(self) -> Path:
        """Its settings and certificates."""
        return self.root / "etc/wattbus" / self.name

    @property
    def units(self) -> Path:
        """Where systemd looks for units of the machine's own."""
        return self.root / "etc/systemd/system"


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
    parser.add_argument(
        "--user", default="wattbus", metavar="USER", help="who runs the services; made if missing [wattbus]"
    )
    parser.add_argument("--start", action="store_true", help="start the services too, or start them anew")
    given = parser.parse_args(argv)
    try:
        return _install(given)
    except (RuntimeFaultError, ContractError) as error:
        sys.stderr.write(f"wattbus install: {error}\n")
        return error.exit_code if isinstance(error, RuntimeFaultError) else UsageError.exit_code


def _install(given: argparse.Namespace) -> int:
    root = given.root.absolute()
    if given.start and root != ROOT:
        raise UsageError("--start goes without --root: what stands in another folder is not this machine's")
    check_id(given.user, "user")
    bundle = read_bundle(given.bundle)
    bundle.check(SystemClock().now())
    place = Place(root, bundle.name)
    _refuse_another(bundle, place)
    owner = _owner(given.user) if root == ROOT else None
    parts = parts_of(bundle)
    changed = _write_settings(bundle, place, owner)
    changed |= _write_units(parts, place, given.user)
    _tell(bundle, place, changed=changed)
    if given.start:
        _start(parts)
    else:
        _tell_next(parts)
    sys.stdout.write(f"now remove {given.bundle}: it holds the private key\n")
    return 0


def _refuse_another(bundle: Bundle, place: Place) -> None:
    """Whether what stands here already may give way to this bundle.

    Raises:
        CertificateError: it is of another authority, or a newer one.
    """
    ca, client = place.settings / CA, place.settings / CLIENT
    present = _read(ca)
    if present is None:
        return
    if present != bundle.authority.encode():
        raise CertificateError(
            f"{ca} is another authority's: if {bundle.id} is now of another site, remove {place.settings}"
        )
    pem = _read(client)
    if pem is None:
        return
    try:
        user = holder_of(present, pem).account
    except CertificateError:
        return  # damaged: this bundle mends it
    number = int(user.removeprefix(bundle.account).removeprefix(".") or 1)
    if number > bundle.number:
        raise CertificateError(f"{client} is newer than this bundle: {user} is there, this is {bundle.user}")


def _write_settings(bundle: Bundle, place: Place, owner: tuple[int, int] | None) -> bool:
    """Returns whether something is different now."""
    folder = place.settings
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        if owner is not None:
            os.chown(folder, *owner)
    except OSError as error:
        raise StoreError(f"{folder}: can't be made: {error.strerror}; run it with sudo") from error
    path = folder / "wattbus.toml"
    present = _read(path)
    data, log = place.root / "var/lib/wattbus" / place.name, place.root / "var/log/wattbus" / place.name
    text = settings_text(bundle, folder, data, log, None if present is None else _decoded(present, path))
    # The authority first: what is new is believed before it is used.
    wanted = {
        folder / CA: bundle.authority.encode(),
        folder / CLIENT: bundle.identity.pem,
        path: text.encode(),
    }
    changed = False
    for file, content in wanted.items():
        if _read(file) != content:
            replace_file(file, content, 0o600, owner)
            changed = True
    return changed


def _write_units(parts: list[Part], place: Place, user: str) -> bool:
    changed = False
    for part in parts:
        unit = place.units / part.unit
        text = unit_text(part, place.settings / "wattbus.toml", f"wattbus/{place.name}", user).encode()
        if _read(unit) != text:
            replace_file(unit, text, 0o644)
            changed = True
    return changed


def _tell(bundle: Bundle, place: Place, *, changed: bool) -> None:
    holder = holder_of(bundle.authority.encode(), bundle.identity.pem)
    sys.stdout.write(
        f"{bundle.account}: certificate {bundle.identity.code} is in place, "
        f"good until {holder.ends:%Y-%m-%d}\n"
        f"{'written' if changed else 'as it was'}: {place.settings}"
        f"{f', {place.units}' if parts_of(bundle) else ''}\n"
    )


def _tell_next(parts: list[Part]) -> None:
    units = " ".join(part.unit for part in parts)
    if units:
        sys.stdout.write(
            f"next: systemctl daemon-reload && systemctl enable {units} && systemctl restart {units}\n"
        )


def _start(parts: list[Part]) -> None:
    units = [part.unit for part in parts]
    # Anew also where nothing has changed just now: an earlier install may not have started them.
    for words in (["daemon-reload"], ["enable", *units], ["restart", *units]):
        _call([SYSTEMCTL, *words])
    sys.stdout.write(f"started: {' '.join(units)}; look in with: journalctl -f -u 'wattbus-*'\n")


def _owner(user: str) -> tuple[int, int]:
    """The user's numbers; made first if there is none of that name."""
    if os.geteuid() != 0:
        raise UsageError(
            "only root may write into /etc: run it with sudo, or look at it first with --root DIR"
        )
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        _call([USERADD, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "--", user])
        entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _call(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True)  # noqa: S603 - our own words, and a user's name after `--`
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeFaultError(f"{' '.join(command)}: {error}") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: can't be read: {error.strerror}; run it with sudo") from error


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8: remove it to have it written anew") from error
