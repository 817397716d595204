"""The role table as Mosquitto takes it: a password file and an access control list; examples/mosquitto.conf.

Mosquitto lets whoever it knows take any client id, and with it another's session: a stolen house could empty
the recorder's. So a user's name is the client id (`use_username_as_clientid`): one user for each connection,
all of an account with its password. The certificate is asked for as well, and says no more than that its
holder is of this site.
"""

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from runtime.errors import RuntimeFaultError
from wattbus.access.roles import Account, Users, checked

_FIRST_PID = 2
"""Less stands for more than one process, or for the first of all."""


class ReloadError(RuntimeFaultError):
    """Mosquitto could not be told that its files have changed; exit code 1."""


class Files(NamedTuple):
    """What Mosquitto reads at its start and at each SIGHUP."""

    passwords: bytes
    """Hashes, but no reason to show them: mode 0600, of the user it runs as."""
    acl: bytes


def files(users: Users) -> Files:
    """For `password_file` and `acl_file`.

    Raises:
        BadIdError: two accounts would be one client.
    """
    verifiers = dict(users)
    passwords: dict[str, str] = {}
    acl: list[str] = []
    for account in checked(verifiers):
        for name in names(account):
            if name not in passwords:
                acl += [f"user {name}", *_rules(account)]
            passwords[name] = verifiers[account].mosquitto
    return Files(_lines(f"{name}:{verifier}" for name, verifier in passwords.items()), _lines(acl))


def login(account: Account) -> str:
    """The user in an account's URL, in which the transport puts the client id in its place.

    A tool's client id is not known beforehand: it logs in by its account's name, one at a time.

    A durable reader's name never changes, or its session would not be found again: of its identities the
    newest counts alone, while a house's first, second, ... count side by side.
    """
    if account.is_tool:
        return account.name
    return "{client}" + ("" if account.rights.reads else account.name.removeprefix(account.owner))


def names(account: Account) -> tuple[str, ...]:
    """Its users: one for each connection, and the account's own for a dashboard or a tool."""
    return (account.name, *(login(account).format(client=session) for session in account.sessions))


def reload(pid_file: Path) -> None:
    """Have a Mosquitto of this machine read its files again: it ends the connections of who is gone.

    Args:
        pid_file: as its configuration names it.

    Raises:
        ReloadError: it can't be told.
    """
    try:
        pid = int(pid_file.read_text())
        # The file is Mosquitto's user's, and we may be root: no other process is to be told.
        if pid < _FIRST_PID or not Path(f"/proc/{pid}/comm").read_text().startswith("mosquitto"):
            raise ReloadError(f"{pid_file}: {pid} is no mosquitto: send it SIGHUP yourself")
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError) as error:
        raise ReloadError(f"{pid_file}: Mosquitto can't be told: {error}; send it SIGHUP yourself") from error


def _rules(account: Account) -> Iterator[str]:
    yield from dict.fromkeys(f"topic write {topic.filter}" for topic in account.rights.publish)
    yield from dict.fromkeys(f"topic read {topic.filter}" for topic in account.rights.subscribes)


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
