"""`wattbus explain`: what was decided for a house at an instant, and why, from what was recorded."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date, timedelta, tzinfo
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from contracts import archive
from contracts.codec import decode
from contracts.errors import BadArchiveError, BadIdError, ContractError
from contracts.ids import check_id
from contracts.instant import Instant
from contracts.messages import Alert
from energy.errors import EnergyError
from energy.zones import zone_of
from recorder.explain import Account, account_of, as_json, as_text
from recorder.folder import Fixed
from recorder.pages import Line, read_page
from runtime.errors import RuntimeFaultError, UsageError
from runtime.flags import OneLineParser
from runtime.store import Store

DAY_S = 86400.0
ALERTS_MAX = 5

T = TypeVar("T")


class Asked(NamedTuple):
    """Where, of whom, and when."""

    root: Path
    zone: tzinfo
    house: str
    at: Instant


class NothingRecordedError(RuntimeFaultError):
    """Nothing is known of that house at that time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Explain; returns the exit code."""
    parser = OneLineParser(
        prog="wattbus explain",
        description="What was decided for a house at an instant, and why, from what the recorder wrote.",
        epilog="example: wattbus explain out/DATA --house house-a --at 2024-07-01T18:00Z",
    )
    parser.add_argument("path", type=Path, help="the recorder's data folder, or the folder it is in")
    parser.add_argument("--house", metavar="HOUSE", help="which; may be left out where there is only one")
    parser.add_argument(
        "--at", metavar="TIME", help="such as 2024-07-01T18:00Z; by default the last there is"
    )
    parser.add_argument("--json", action="store_true", help="everything that is known, for programs")
    given = parser.parse_args(argv)
    try:
        asked = _asked(given.path, given.house, given.at)
        account = explain(asked)
    except (RuntimeFaultError, ContractError, EnergyError) as error:
        sys.stderr.write(f"wattbus: {error}\n")
        return error.exit_code if isinstance(error, RuntimeFaultError) else UsageError.exit_code
    sys.stdout.write(as_json(account).decode() + "\n" if given.json else as_text(account, asked.zone))
    return 0


def explain(asked: Asked) -> Account:
    """The account of a house at an instant.

    Raises:
        NothingRecordedError: nothing was heard of the house that day or the day before.
        BadArchiveError: a file that can't be read.
    """
    account = account_of(_lines(asked), asked.house, asked.at)
    if account is None:
        days = ", ".join(map(str, _days(asked.root, asked.house)[-3:]))
        raise NothingRecordedError(
            f"{asked.root}: nothing was decided for {asked.house} in the day before {asked.at}; "
            f"the last days there are: {days}"
        )
    return msgspec.structs.replace(account, measured=_measured(asked), alerts=_alerts(asked))


def _asked(path: Path, house: str | None, at: str | None) -> Asked:
    root = path / "DATA" if (path / "DATA").is_dir() else path
    zone = zone_of(Store(root / "archive.json", Fixed, Fixed("UTC")).load().day_timezone)
    houses = sorted({page.parent.name for page in root.glob("*/diary_*")})
    houses = [name for name in houses if _days(root, name)]
    if not houses:
        raise NothingRecordedError(f"{root}: no decisions are recorded there{_hint(root.absolute())}")
    if house is None and len(houses) > 1:
        raise UsageError(f"which house? --house {', '.join(houses)}")
    house = check_id(house, "house") if house else houses[0]
    if house not in houses:
        raise UsageError(f"{root}: no decisions of {house}; there are {', '.join(houses)}")
    return Asked(root, zone, house, _last_heard(root, house) if at is None else _instant(at))


def _hint(folder: Path) -> str:
    is_houses = any(folder.glob("diary_*"))
    return f"; it is a house's own folder: {folder.parent} --house {folder.name}" if is_houses else ""


def _instant(text: str) -> Instant:
    try:
        return Instant.parse(text)
    except ValueError as error:
        raise UsageError(f"--at {text!r}: {error}; write 2024-07-01T18:00Z") from error


def _days(root: Path, house: str) -> list[date]:
    """The days of which there is a page; a file that somebody else has put there is none."""
    days = set()
    for page in (root / house).glob("diary_*.jsonl*"):
        with suppress(ValueError):
            days.add(date.fromisoformat(page.name.removeprefix("diary_").partition(".")[0]))
    return sorted(days)


def _last_heard(root: Path, house: str) -> Instant:
    last = None
    for line in read_page(root, house, _days(root, house)[-1]):
        last = line.heard_at
    if last is None:
        raise NothingRecordedError(f"{root}: the last page of {house} is empty: say --at")
    return last


def _two_days(asked: Asked) -> list[date]:
    today = archive.day_of(asked.at, asked.zone)
    return [today - timedelta(days=1), today]


def _lines(asked: Asked) -> Iterator[Line]:
    """What was heard in the 24 h before: a plan or an order of the evening holds after midnight."""
    for day in _two_days(asked):
        for line in read_page(asked.root, asked.house, day):
            if asked.at.seconds_since(line.heard_at) <= DAY_S:
                yield line


def _measured(asked: Asked) -> dict[str, archive.Row]:
    """The last row of each meter at that instant."""
    measured: dict[str, archive.Row] = {}
    for folder in sorted(item for item in (asked.root / asked.house).iterdir() if item.is_dir()):
        for path in _day_files(asked, folder.name):
            for row in _read(path, archive.parse_row, header=True):
                known = measured.get(folder.name)
                if row.timestamp <= asked.at and (known is None or known.timestamp <= row.timestamp):
                    measured[folder.name] = row
    return measured


def _day_files(asked: Asked, meter: str) -> list[Path]:
    try:
        return [asked.root / archive.day_file(asked.house, meter, day) for day in _two_days(asked)]
    except BadIdError:
        return []  # a folder that somebody else has put there


def _alerts(asked: Asked) -> list[Alert]:
    alerts = [
        alert
        for day in _two_days(asked)
        for alert in _read(asked.root / archive.alerts_file(asked.house, day), _alert)
        if 0 <= asked.at.seconds_since(alert.timestamp) <= DAY_S
    ]
    return alerts[-ALERTS_MAX:]


def _alert(line: str) -> Alert:
    return decode(Alert, line.encode())


def _read(path: Path, parse: Callable[[str], T], *, header: bool = False) -> Iterator[T]:
    """What can be read of a file's lines; a file that is not there has none."""
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            if header:
                next(file, None)
            for line in file:
                try:
                    yield parse(line)
                except ContractError:
                    continue
    except OSError as error:
        raise BadArchiveError(f"{path}: can't be read: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
