"""The brokers' files, made from the register; and brokers that run are told."""

import ssl
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from contracts.instant import Instant
from runtime.errors import RuntimeFaultError, StoreError, UsageError
from runtime.store import replace_file
from wattbus.access import hivemq, mosquitto, rabbitmq
from wattbus.access.register import Register

FOLDER = "brokers"
"""In the operator's folder; may be copied to the brokers as a whole, for no key of the authority is in it."""
APPLY = "apply.toml"
HIVEMQ = f"hivemq-{hivemq.FILE}"
TRUST = "trust.p12"
"""HiveMQ's trust store."""


class NotToldError(RuntimeFaultError):
    """A running broker could not be told; exit code 1."""


class Running(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`apply.toml`: the brokers that run, and how they are told."""

    folder: str = ""
    """Whence brokers of this machine read their files, if not from ours; of the user they run as."""
    hivemq_folder: str = ""
    """Of HiveMQ's extension."""
    rabbitmq: str = ""
    """Its management, `https://user:password@host:15671`; the authority of the site vouches for it too."""
    mosquitto_pid_file: str = ""


def write_files(register: Register, now: Instant) -> Path:
    """Write what each broker reads; returns the folder.

    Raises:
        StoreError: it can't be written.
    """
    folder = register.folder / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: can't be made: {error.strerror}") from error
    for name, content in _files(register, now).items():
        replace_file(folder / name, content, 0o600)
    return folder


def _files(register: Register, now: Instant) -> dict[str, bytes]:
    users, authority = register.users, register.authority(now).certificate
    lists = mosquitto.files(users)
    return {
        "ca.crt": authority,
        "ca.crl": register.revocations(now),
        "rabbitmq.json": rabbitmq.definitions(users),
        "mosquitto.passwords": lists.passwords,
        "mosquitto.acl": lists.acl,
        HIVEMQ: hivemq.access_file(users),
        TRUST: hivemq.trust_store(authority),
    }


def running(folder: Path) -> Running:
    """The brokers that are to be told.

    Raises:
        UsageError: apply.toml is missing, or says what it should not.
    """
    path = folder / APPLY
    try:
        told = msgspec.convert(tomllib.loads(path.read_text()), Running)
    except OSError as error:
        raise UsageError(f"--apply needs {path}: {error.strerror}; docs/enrol.md shows one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}") from error
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path}: others can read it, and a password may stand in it: chmod 600 {path}")
    return told


def apply(folder: Path, there: Running) -> Iterator[str]:
    """Tell the brokers that run; who no longer counts loses its connections. Tells what was done.

    Args:
        folder: with the files, of `write_files`.
        there: the brokers.

    Raises:
        NotToldError: one could not be told; the others were.
    """
    failed: list[str] = []
    for told in _steps(folder, there):
        try:
            yield told()
        except RuntimeFaultError as error:
            failed.append(str(error))
    if failed:
        raise NotToldError(f"{'; '.join(failed)}: put it right, then tell them again: wattbus enroll --apply")


def _steps(source: Path, there: Running) -> Iterator[Callable[[], str]]:
    if there.folder:
        yield lambda: _copy(source, Path(there.folder))
    if there.hivemq_folder:
        yield lambda: _copy_hivemq(source, Path(there.hivemq_folder))
    if there.mosquitto_pid_file:
        yield lambda: _tell_mosquitto(Path(there.mosquitto_pid_file))
    if there.rabbitmq:
        yield lambda: _tell_rabbitmq(source, there.rabbitmq)


def _copy(source: Path, target: Path) -> str:
    for path in source.iterdir():
        if path.is_file():
            _give(path.read_bytes(), target, path.name)
    return f"copied to {target}"


def _copy_hivemq(source: Path, target: Path) -> str:
    _give((source / HIVEMQ).read_bytes(), target, hivemq.FILE)
    return "HiveMQ reads its list within two seconds"


def _give(content: bytes, folder: Path, name: str) -> None:
    """Write a file for a broker, whose folder it is."""
    try:
        owner = folder.stat()
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}") from error
    replace_file(folder / name, content, 0o600, (owner.st_uid, owner.st_gid))


def _tell_mosquitto(pid_file: Path) -> str:
    mosquitto.reload(pid_file)
    return "Mosquitto reads its files again"


def _tell_rabbitmq(source: Path, url: str) -> str:
    management = rabbitmq.Management(url, _trusting(source / "ca.crt"))
    management.load((source / "rabbitmq.json").read_bytes())
    return "RabbitMQ has the accounts"


def _trusting(authority: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(authority)
    return context
