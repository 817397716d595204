"""The operator's register: the accounts, the identities they hold, and those that no longer count.

Each identity that an account is given is a user of its own at the brokers: `house.house-d`, then
`house.house-d.2`. So a new one counts beside the old until the old is withdrawn, by password too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from contracts.codec import decode_hook, encode_hook
from contracts.instant import Instant
from runtime.claim import claim
from runtime.errors import RuntimeFaultError, StoreError
from runtime.store import replace_file
from wattbus.access.authority import Revoked, client_identity, new_authority, revocation_list, serial_of
from wattbus.access.bundle import user_of
from wattbus.access.identity import Identity
from wattbus.access.password import Verifier, new_password, verifier_of
from wattbus.access.records import Brokers, Content, Entry, Held, Withdrawn
from wattbus.access.roles import Account, checked


class NotEnrolledError(RuntimeFaultError):
    """No such account, or no such identity of it; exit code 1."""


class Issued(NamedTuple):
    """An identity as it is given out, once: the key and the password are kept nowhere here."""

    account: Account
    number: int
    identity: Identity
    password: str


class User(NamedTuple):
    """Who a broker is to let in, with what rights."""

    account: Account
    verifier: Verifier


class Register:
    """The folder of the operator: the authority, the register, and who holds which identity.

    Args:
        folder: exists, ours alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "register.json"
        self._content = self._read()

    @property
    def users(self) -> list[User]:
        """Whom the brokers are to let in."""
        return [
            User(entry.account._replace(name=user_of(name, held.number)), held.verifier)
            for name, entry in self._content.entries.items()
            for held in entry.held
        ]

    @property
    def entries(self) -> dict[str, Entry]:
        """The accounts that count, by name."""
        return self._content.entries

    def brokers_of(self, role: str) -> Brokers:
        """Where the account of this role that came last finds the brokers."""
        found = [entry for entry in self._content.entries.values() if entry.role == role]
        return found[-1].brokers if found else Brokers()

    def entry(self, account: str) -> Entry:
        """One account's.

        Raises:
            NotEnrolledError: there is none of that name.
        """
        if account not in self._content.entries:
            there = ", ".join(sorted(self._content.entries)) or "none"
            raise NotEnrolledError(f"{account[:100]} is not enrolled; there are: {there}")
        return self._content.entries[account]

    def authority(self, now: Instant) -> Identity:
        """The site's own, made when it is first asked for.

        Raises:
            StoreError: its files can't be read or written, or one of them is gone.
        """
        certificate, key = self.folder / "ca.crt", self.folder / "ca.key"
        try:
            there = {path for path in (certificate, key) if path.exists()}
            if there == {certificate, key}:
                return Identity(certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise StoreError(f"{self.folder}: the authority can't be read: {error.strerror}") from error
        if there or self._content.entries or self._content.withdrawn:
            raise StoreError(
                f"{self.folder}: ca.key or ca.crt is gone, and it has signed what still counts: restore it"
            )
        authority = new_authority(self.folder.resolve().name, now)
        replace_file(key, authority.key, 0o600)
        replace_file(certificate, authority.certificate, 0o600)
        self._write(self._content)  # from now on it is there, or was lost
        return authority

    def enroll(self, wanted: Entry, now: Instant) -> Issued:
        """Give an account an identity, with these devices; those it holds already count on.

        Raises:
            BadIdError: what should be an id is none, or another account would be the same client.
            StoreError: the register can't be written: nothing has changed then.
        """
        name = wanted.account.name
        others = [entry.account for other, entry in self._content.entries.items() if other != name]
        checked([wanted.account, *others])
        number = 1 + max(self._numbers(name), default=0)
        account = wanted.account._replace(name=user_of(name, number))
        identity = client_identity(self.authority(now), account.name, now)
        password = new_password()
        held = Held(
            number=number,
            serial=str(serial_of(identity)),
            code=identity.code,
            verifier=verifier_of(password),
            issued_at=now,
        )
        former = self._content.entries[name].held if name in self._content.entries else []
        self._put(name, msgspec.structs.replace(wanted, held=[*former, held]))
        return Issued(account, number, identity, password)

    def finish(self, account: str, code: str, now: Instant) -> list[str]:
        """Withdraw what an account held before the identity of that code.

        Returns:
            Those users.

        Raises:
            NotEnrolledError: there is none of that name, or it holds none of that code.
        """
        entry = self.entry(account)
        numbers = [held.number for held in entry.held if held.code == code.upper()]
        if not numbers:
            raise NotEnrolledError(
                f"{account} was given no certificate {code[:20]!r} that counts: "
                "give the code that `wattbus install` has shown there"
            )
        older = [held for held in entry.held if held.number < numbers[0]]
        if older:
            rest = [held for held in entry.held if held.number >= numbers[0]]
            self._put(account, msgspec.structs.replace(entry, held=rest), _withdrawn(account, older, now))
        return [user_of(account, held.number) for held in older]

    def revoke(self, account: str, now: Instant) -> list[str]:
        """Take an account back: nothing it holds counts from now on.

        Returns:
            Its users; none if it was taken back before.

        Raises:
            NotEnrolledError: there is none of that name, and was none.
        """
        if account not in self._content.entries and self._numbers(account):
            return []
        held = self.entry(account).held
        self._put(account, None, _withdrawn(account, held, now))
        return [user_of(account, one.number) for one in held]

    def revocations(self, now: Instant) -> bytes:
        """The signed list of certificates that no longer count, as PEM."""
        revoked = [Revoked(int(one.serial), one.at) for one in self._content.withdrawn]
        return revocation_list(self.authority(now), revoked, now)

    def _numbers(self, account: str) -> list[int]:
        entry = self._content.entries.get(account)
        gone = [one.number for one in self._content.withdrawn if one.account == account]
        return gone + [held.number for held in (entry.held if entry else [])]

    def _put(self, account: str, entry: Entry | None, withdrawn: list[Withdrawn] | None = None) -> None:
        entries = {name: one for name, one in self._content.entries.items() if name != account}
        if entry is not None:
            entries[account] = entry
        self._write(Content(entries=entries, withdrawn=[*self._content.withdrawn, *(withdrawn or [])]))

    def _read(self) -> Content:
        if not self._path.exists():
            if (self.folder / "ca.crt").exists():
                # Taken for empty, it would have the brokers put everybody out.
                raise StoreError(
                    f"{self._path} is gone, and accounts may stand in it: restore it from a backup"
                )
            return Content()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Content, dec_hook=decode_hook)
        except (OSError, msgspec.DecodeError, ValueError) as error:
            raise StoreError(f"{self._path}: can't be read: {error}; restore it from a backup") from error

    def _write(self, content: Content) -> None:
        encoded = msgspec.json.format(msgspec.json.encode(content, enc_hook=encode_hook), indent=1)
        replace_file(self._path, encoded, 0o600)
        self._content = content


def _withdrawn(account: str, held: list[Held], now: Instant) -> list[Withdrawn]:
    return [Withdrawn(account=account, number=one.number, serial=one.serial, at=now) for one in held]


@contextmanager
def open_register(folder: Path) -> Iterator[Register]:
    """The operator's folder, made if it is missing, and ours alone until the context is left.

    Raises:
        StoreError: it can't be made, read or written.
        UsageError: another command works in it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: can't be made: {error.strerror}: give another --access-dir") from error
    with claim(folder / ".lock", "a command on the register"):
        yield Register(folder)
