"""`wattbus quarantine`: what services could not use, why, and another try for it."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from broker.connect import NO_BROKER, open_spectator
from broker.port import Bus
from broker.quarantine import QuarantineFolder, Refusal, Retry
from contracts import topics
from contracts.codec import decode_at
from contracts.errors import ContractError
from contracts.messages import Message
from contracts.topics import Address, DeliveryClass
from runtime.clock import Clock, SystemClock
from runtime.errors import RuntimeFaultError, UsageError
from runtime.flags import OneLineParser
from runtime.logs import configure
from runtime.process import Context, run_process
from runtime.settings import CommonSettings, load

SETTINGS = {
    "config": "a TOML file with these settings",
    "state-dir": "the services' state folder [state]",
    "readings-url": "the broker to publish to, as the services have it",
    "wait-s": "how long to wait for the broker [300]",
}
SHOWN_MAX = 100
"""Characters of a reason in a list."""


class NoSuchEntryError(RuntimeFaultError):
    """An id that no entry has."""


class NotRetriedError(RuntimeFaultError):
    """Entries that are not published again; the lines before say why."""


class Entry(NamedTuple):
    """One payload that was refused on one topic, however often it came."""

    name: str
    last: Refusal
    times: int

    @property
    def house(self) -> str:
        """The house, if the topic names one."""
        return [*self.last.topic.split("/"), "", ""][1]


def main(argv: Sequence[str] | None = None) -> int:
    """List, show or publish again; returns the exit code."""
    parser = OneLineParser(
        prog="wattbus quarantine",
        description="What services could not use. ls: each entry and why; show ID: one of them whole; "
        "retry ID...: publish entries again to their topics.",
        epilog="example: wattbus quarantine retry 3f9a0c52b1de --state-dir state "
        "--readings-url amqp://127.0.0.1",
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=["ls", "show", "retry"])
    parser.add_argument("entries", nargs="*", metavar="ID", help="as ls names them")
    for name, text in SETTINGS.items():
        parser.add_argument(f"--{name}", dest=name, metavar="X", help=text)
    given = vars(parser.parse_args(argv))
    flags = [text for name in SETTINGS if given[name] is not None for text in (f"--{name}", given[name])]
    try:
        settings = load("quarantine", CommonSettings, flags).base
        folder = QuarantineFolder(settings.state_dir / "quarantine")
        match given["action"], given["entries"]:
            case "ls", []:
                return _print(_list(folder), folder)
            case "show", [name]:
                return _print(_show(_find(folder, [name])[0]), folder)
            case "retry", [_, *_] as names:
                return _retry(settings, folder, names)
            case action, _:
                raise UsageError(
                    f"quarantine: {action} takes {'no ID' if action == 'ls' else 'an ID, see ls'}"
                )
    except RuntimeFaultError as error:
        sys.stderr.write(f"wattbus: {error}\n")
        return error.exit_code


def _print(text: str, folder: QuarantineFolder) -> int:
    sys.stdout.write(text)
    if folder.damaged:
        sys.stderr.write(f"wattbus: {folder.damaged} damaged lines in the quarantine were left out\n")
    return 0


def entries_of(folder: QuarantineFolder, names: Sequence[str] | None = None) -> dict[str, Entry]:
    """The entries by their names, those refused last at the end; all of them, or those that are named."""
    entries: dict[str, Entry] = {}
    for refusal in folder.refusals():
        name = refusal.entry
        if names is None or name in names:
            # Of all, the payloads are not kept: they may be a gigabyte.
            kept = refusal if names is not None else _without_payload(refusal)
            before = entries.pop(name, None)
            entries[name] = Entry(name, kept, 1 if before is None else before.times + 1)
    return entries


def _without_payload(refusal: Refusal) -> Refusal:
    return Refusal(refusal.refused_at, refusal.topic, refusal.reason, "")


def _find(folder: QuarantineFolder, names: Sequence[str]) -> list[Entry]:
    entries = entries_of(folder, names)
    for name in names:
        if name not in entries:
            raise NoSuchEntryError(f"quarantine: no entry {escaped(name)[:40]}: ls names those there are")
    return [entries[name] for name in names]


def _list(folder: QuarantineFolder) -> str:
    retries = folder.retries()
    lines = ["ID            last refused              times  house             topic and reason\n"]
    for name, entry in entries_of(folder).items():
        last = entry.last
        reason = escaped(last.reason)
        shown = reason if len(reason) <= SHOWN_MAX else f"{reason[:SHOWN_MAX]}..."
        mark = f"[retried {retries[name]}] " if name in retries else ""
        lines.append(
            f"{name}  {escaped(last.refused_at):24}  {entry.times:5}  {escaped(entry.house)[:16]:16}  "
            f"{mark}{escaped(last.topic)}: {shown}\n"
        )
    return "".join(lines) if len(lines) > 1 else "nothing is in quarantine\n"


def _show(entry: Entry) -> str:
    last = entry.last
    return (
        f"entry         {entry.name}\n"
        f"last refused  {escaped(last.refused_at)}, {entry.times} times\n"
        f"topic         {escaped(last.topic)}\n"
        f"reason        {escaped(last.reason)}\n"
        f"payload       {len(last.payload)} bytes, as text:\n"
        f"{escaped(last.payload.decode(errors='backslashreplace'))}\n"
    )


def escaped(text: str) -> str:
    """Text that a terminal shows as it is: what would steer or mislead it is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _retry(settings: CommonSettings, folder: QuarantineFolder, names: Sequence[str]) -> int:
    entries = _find(folder, list(dict.fromkeys(names)))
    url = settings.readings_url or settings.live_url
    if not url:
        raise UsageError(NO_BROKER)
    clock = SystemClock()

    async def publish(_: Context) -> None:
        async with open_spectator(url, clock, client="quarantine", wait_s=settings.wait_s) as bus:
            refused = await retry(bus, clock, folder, entries)
        for name, why in refused.items():
            sys.stderr.write(f"wattbus: {name} not published: {why}\n")
        sys.stdout.write(f"{len(entries) - len(refused)} of {len(entries)} published again\n")
        if refused:
            raise NotRetriedError("quarantine: the entries named above stay as they are")

    configure((), clock, "ERROR", None)
    return run_process(publish, clock)


async def retry(bus: Bus, clock: Clock, folder: QuarantineFolder, entries: Sequence[Entry]) -> dict[str, str]:
    """Publish entries again and mark them; returns why not, for those that were not.

    An entry is marked once the broker has it: whoever is killed between the two publishes it again the next
    time, and the recorder knows it by its identity.

    Raises:
        BusError: the broker does not take it.
        StoreError: it can't be marked.
    """
    retries = folder.retries()
    refused: dict[str, str] = {}
    for entry in entries:
        try:
            address, message = _usable(entry, retries.get(entry.name))
        except (ContractError, NotRetriedError) as error:
            refused[entry.name] = escaped(str(error))
            continue
        await bus.publish(address, message)
        folder.mark(Retry(entry.name, str(clock.now())))
    return refused


def _usable(entry: Entry, retried_at: str | None) -> tuple[Address[Message], Message]:
    """Where it goes and what it says.

    Raises:
        ContractError: it still can't be decoded.
        NotRetriedError: it was published again already, or is nothing that may come late.
    """
    if retried_at is not None:
        raise NotRetriedError(f"it was published again at {retried_at}")
    address = topics.find(entry.last.topic)
    if address is None:
        raise NotRetriedError("its topic is none of wattbus's")
    if address.topic.delivery is not DeliveryClass.READING:
        raise NotRetriedError("only readings and alerts may come late")
    return address, decode_at(address, entry.last.payload)


if __name__ == "__main__":
    sys.exit(main())
