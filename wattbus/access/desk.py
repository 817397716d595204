"""The operator's desk: gives identities out and takes them back, and lets the brokers know."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.instant import Instant
from runtime.store import replace_file
from wattbus.access import hivemq, mosquitto
from wattbus.access.authority import server_identity
from wattbus.access.brokers import Running, apply, running, write_files
from wattbus.access.bundle import Bundle, encode_bundle
from wattbus.access.identity import holder_of
from wattbus.access.records import Entry
from wattbus.access.register import Issued, Register, open_register
from wattbus.access.unit import parts_of


class Desk:
    """One command's work; each method tells the operator as it goes, and works only as it is listened to.

    Args:
        register: ours alone meanwhile.
        there: the brokers that are told; None tells none.
    """

    def __init__(self, register: Register, now: Instant, there: Running | None) -> None:
        self.register = register
        self._now = now
        self._there = there

    def hand_out(self, wanted: Entry) -> Iterator[str]:
        """Give an account its next identity, in a bundle in this folder."""
        bundle = self._bundle(wanted, self.register.enroll(wanted, self._now))
        path = Path(f"{bundle.name}.bundle")
        replace_file(path, encode_bundle(bundle), 0o600)
        holder = holder_of(bundle.authority.encode(), bundle.identity.pem)
        yield f"{path}: {bundle.user}, good until {holder.ends:%Y-%m-%d}; it holds a private key (mode 0600)"
        yield from self.publish()
        # Who runs nothing gets files, in a folder of their own.
        how = (
            f"sudo wattbus install {path} --start" if parts_of(bundle) else f"wattbus install {path} --root ."
        )
        yield f"then carry {path} there (scp), and: {how}"

    def rotate(self, account: str) -> Iterator[str]:
        """Give an account its next identity; those it holds count on until the house has the new one."""
        entry = self.register.entry(account)
        # A durable reader's session at Mosquitto has one name, and so one password: docs/access.md.
        but = " (at Mosquitto only the new one counts)" if entry.account.rights.reads else ""
        yield from self.hand_out(entry)
        yield f"the old one counts on{but} until its own end, or until you give the code that install shows:"
        yield f"wattbus rotate {account} --finish CODE"

    def finish(self, account: str, code: str) -> Iterator[str]:
        """End what an account held before the identity of that code, which is in use."""
        return self._take_back(account, self.register.finish(account, code, self._now))

    def revoke(self, account: str) -> Iterator[str]:
        """Take an account back."""
        return self._take_back(account, self.register.revoke(account, self._now))

    def certify_broker(self, hosts: list[str]) -> Iterator[str]:
        """Give a broker its certificate, for the names and addresses that clients call it by."""
        authority = self.register.authority(self._now)
        identity = server_identity(authority, hosts, self._now)
        folder = write_files(self.register, self._now)
        path = folder / f"{hosts[0]}.pem"
        store = folder / f"{hosts[0]}.p12"
        replace_file(path, identity.pem, 0o600)
        replace_file(store, hivemq.key_store(identity), 0o600)
        yield f"{path}: certificate and key of the broker called {', '.join(hosts)} (mode 0600)"
        yield f"{store}: the same for HiveMQ"
        yield from self.publish()

    def publish(self) -> Iterator[str]:
        """Write what the brokers read, and tell those that run.

        Raises:
            NotToldError: one of them could not be told; the others were.
        """
        folder = write_files(self.register, self._now)
        if self._there is None:
            yield f"next: the brokers must read {folder} anew: docs/enrol.md, or --apply"
        else:
            yield from apply(folder, self._there)

    def _bundle(self, wanted: Entry, issued: Issued) -> Bundle:
        return Bundle(
            role=wanted.role,
            id=wanted.id,
            number=issued.number,
            meters=wanted.meters,
            ders=wanted.ders,
            readings_url=wanted.brokers.readings_url,
            live_url=wanted.brokers.live_url,
            login=mosquitto.login(issued.account),
            password=issued.password,
            authority=self.register.authority(self._now).certificate.decode(),
            certificate=issued.identity.certificate.decode(),
            key=issued.identity.key.decode(),
        )

    def _take_back(self, account: str, gone: list[str]) -> Iterator[str]:
        yield (
            f"{account}: counts no more: {', '.join(gone)}"
            if gone
            else f"{account}: nothing more to take back"
        )
        yield from self.publish()


@contextmanager
def open_desk(folder: Path, now: Instant, *, tells: bool) -> Iterator[Desk]:
    """The desk of the operator's folder, which is ours alone until the context is left.

    Args:
        folder: made if it is missing.
        tells: whether running brokers are told.

    Raises:
        StoreError: the folder can't be made, read or written.
        UsageError: another command works in it, or the brokers are not named.
    """
    with open_register(folder) as register:
        yield Desk(register, now, running(folder) if tells else None)
