"""Whom a token stands for: the site's reads all and changes things, a house's reads that house."""

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from contracts.errors import ContractError
from contracts.ids import check_id, refuse_reserved
from runtime.errors import UsageError

SCHEME = b"bearer "
LENGTH_MIN = 16
"""A shorter one could be guessed; `openssl rand -hex 32` makes a good one."""
OTHERS = 0o077
"""What a secret file's mode must not let others do."""

Headers = Iterable[tuple[bytes, bytes]]


class Principal(NamedTuple):
    """Who asks: the site, perhaps by a person, or one of its houses."""

    house: str = ""
    """Empty: the site."""
    user: str = ""
    """Whose token it is; empty: nobody's by name."""

    @property
    def is_site(self) -> bool:
        """Whether it may see all, and change things."""
        return not self.house

    def sees(self, house: str) -> bool:
        """Whether it may know of a house; one it does not see is for it none at all."""
        return self.is_site or self.house == house


SITE = Principal()


class Tokens:
    """The tokens that count, as digests.

    Args:
        known: whom each stands for.
    """

    def __init__(self, known: Mapping[str, Principal] | None = None) -> None:
        self._known = [(sha256(token.encode()).digest(), who) for token, who in (known or {}).items()]
        self.has_site = any(who.is_site for _, who in self._known)

    def __bool__(self) -> bool:
        return bool(self._known)

    def who(self, headers: Headers) -> Principal | None:
        """Whom a request's token stands for; None: no token, a wrong one, or several.

        Args:
            headers: the request's, their names in lower case.
        """
        shown = shown_in(headers)
        if len(shown) != 1 or shown[0][: len(SCHEME)].lower() != SCHEME:
            return None
        digest = sha256(shown[0][len(SCHEME) :]).digest()
        # All are looked at, each in constant time: how long it takes tells nothing of any.
        found = [who for known, who in self._known if hmac.compare_digest(known, digest)]
        return found[0] if found else None


def shown_in(headers: Headers) -> list[bytes]:
    """What a request shows as its credentials: right or wrong, none or several."""
    return [value for name, value in headers if name == b"authorization"]


def read_tokens(token: str, file: Path | None, users: Path | None, houses: Path | None) -> Tokens:
    """The tokens that settings name.

    Args:
        token: the site's; if not empty it counts, whatever the file says.
        file: where it stands alone.
        users: a folder with a file for each person, its name the person's.
        houses: a folder with a file for each house.

    Raises:
        UsageError: one can't be read, or by others too; is too short, or another's too; or a name is none.
    """
    known: dict[str, Principal] = {}
    if token:
        known[checked_token(token, "token")] = SITE
    elif file is not None:
        known[_own(file, "token_file")] = SITE
    for setting, folder in (("user_tokens", users), ("house_tokens", houses)):
        for path in _files(setting, folder):
            try:
                name = check_id(path.name)
                refuse_reserved(name)
            except ContractError as error:
                raise UsageError(f"{setting} {folder}: {error}") from error
            found = _own(path, setting)
            if found in known:
                raise UsageError(f"{setting} {path}: somebody else has this token: make one for each")
            known[found] = Principal(user=name) if folder is users else Principal(house=name)
    return Tokens(known)


def _files(setting: str, folder: Path | None) -> list[Path]:
    """All but the hidden ones: what mounts secrets keeps some of its own there."""
    if folder is None:
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{setting} {folder}: can't be read: {error.strerror}") from error


def _own(file: Path, setting: str) -> str:
    return checked_token(read_token(file, setting), f"{setting} {file}")


def read_token(file: Path, setting: str) -> str:
    """The token that stands alone in a file; how long it is is up to who asks for it.

    Raises:
        UsageError: it can't be read, or by others too, or can't be shown in a header.
    """
    try:
        mode, found = file.stat().st_mode, file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"{setting} {file}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{setting} {file}: a token is printable ASCII, on one line") from error
    if mode & OTHERS:
        raise UsageError(f"{setting} {file}: others may read it: chmod 600 {file}")
    return _shown(found, f"{setting} {file}")


def checked_token(token: str, where: str) -> str:
    """A token, if it may be one of ours.

    Raises:
        UsageError: it could be guessed, or not be shown in a header.
    """
    if len(_shown(token, where)) < LENGTH_MIN:
        raise UsageError(f"{where}: a token has {LENGTH_MIN} letters or more: openssl rand -hex 32 makes one")
    return token


def _shown(token: str, where: str) -> str:
    if not (token.isascii() and token.isprintable()):
        raise UsageError(f"{where}: a token is printable ASCII, on one line")
    return token
