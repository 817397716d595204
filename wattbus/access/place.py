"""Where an account lives on a machine, and how files get there: nobody else reads them, nor slips one in."""

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from runtime.errors import StoreError, UsageError
from runtime.store import replace_file

CA, CLIENT = "ca.crt", "client.pem"
USER_MAX = 31
"""Letters of a user's name, as useradd takes it."""


class Owner(NamedTuple):
    """By their numbers."""

    uid: int
    gid: int


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
    def toml(self) -> Path:
        """Its settings."""
        return self.settings / "wattbus.toml"

    @property
    def state(self) -> Path:
        """What must outlive a restart."""
        return self.root / "var/lib/wattbus" / self.name

    @property
    def log(self) -> Path:
        """Its logs."""
        return self.root / "var/log/wattbus" / self.name

    @property
    def units(self) -> Path:
        """Where systemd looks for units of the machine's own."""
        return self.root / "etc/systemd/system"

    @property
    def user(self) -> str:
        """Whom its services run as: nobody else's, so that no account reads another's key."""
        user = f"wattbus-{self.name}"
        if len(user) > USER_MAX:
            return f"wattbus-{hashlib.sha256(self.name.encode()).hexdigest()[:16]}"
        return user


def make_folder(folder: Path, owner: Owner | None) -> None:
    """Make an account's folder: only root puts files into it, and only its user looks.

    Args:
        owner: the account's user; None: who runs this keeps it to themselves.

    Raises:
        StoreError: it can't be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if owner is not None:
            os.chown(folder, 0, owner.gid)
        folder.chmod(0o700 if owner is None else 0o750)
    except OSError as error:
        raise StoreError(f"{folder}: can't be made: {error.strerror}; run it with sudo") from error


def put_file(path: Path, content: bytes, mode: int, owner: Owner | None = None) -> bool:
    """Have a file say this, and be whose it is to be; returns whether something was different.

    Raises:
        StoreError: it can't be read or written.
        UsageError: a link stands there, or something else that is no file.
    """
    there = _find(path)
    if there is not None and there.content == content and there.mode == mode and owner in (None, there.owner):
        return False
    replace_file(path, content, mode, owner)
    return True


def read_file(path: Path) -> bytes | None:
    """What a file says; None: there is none.

    Raises:
        StoreError: it can't be read.
        UsageError: a link stands there, or something else that is no file.
    """
    there = _find(path)
    return None if there is None else there.content


class _Found(NamedTuple):
    content: bytes
    mode: int
    owner: Owner


def _find(path: Path) -> _Found | None:
    # We are root, and an account's user may have been able to write here: no link of theirs is followed.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            raise UsageError(f"{path}: is a link: put the file itself there, or remove it") from error
        raise StoreError(f"{path}: can't be read: {error.strerror}; run it with sudo") from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise UsageError(f"{path}: is no file: remove it")
    with os.fdopen(handle, "rb") as file:
        return _Found(file.read(), stat.S_IMODE(about.st_mode), Owner(about.st_uid, about.st_gid))
