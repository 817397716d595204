"""What a source says it did, what stands in the files, and what the two come to."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, tzinfo
from pathlib import Path

from contracts import archive
from contracts.errors import BadArchiveError
from tests.fault.outbox_source import power_of

Key = tuple[int, int]
SHOWN = 5


class Account:
    """One source's own words; `update` reads what is new of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attempted: set[Key] = set()
        self.acknowledged: set[Key] = set()
        self.confirms_s: list[float] = []
        """When the broker had one, in monotonic seconds."""
        self._offset = 0

    def update(self) -> None:
        """Read on; a line that a kill has cut is left where it is."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(end)
        for line in whole.splitlines():
            kind, boot, seq, *at = line.split()
            match kind:
                case b"a":
                    self.attempted.add((int(boot), int(seq)))
                case b"k":
                    self.acknowledged.add((int(boot), int(seq)))
                case _:
                    self.confirms_s.append(float(at[0]))

    def first_confirm_after(self, moment_s: float) -> float | None:
        """How long it took [s]."""
        return next((at - moment_s for at in self.confirms_s if at >= moment_s), None)


@dataclass
class Files:
    """The rows of one house, as anybody would read them."""

    rows: Counter[Key] = field(default_factory=Counter)
    days: Counter[date] = field(default_factory=Counter)
    torn: list[str] = field(default_factory=list)
    """Lines that are no rows, and files without an end of line."""
    unexpected: list[str] = field(default_factory=list)
    """Rows of another day than their file's, or with values that were never measured."""


def files_of(data: Path, house: str, zone: tzinfo) -> Files:
    """Read every day's file of a house."""
    found = Files()
    for path in sorted((data / house / "main").glob("main_????-??-??.csv")):
        content = path.read_text(errors="replace")
        if not content.endswith("\n"):
            found.torn.append(f"{path.name} has no end")
        header, *lines = content.splitlines() or [""]
        if header != archive.HEADER:
            found.torn.append(f"{path.name} begins {header!r}")
        day = date.fromisoformat(path.stem.removeprefix("main_"))
        for line in lines:
            _read_row(line, day, zone, found)
    return found


def _read_row(line: str, day: date, zone: tzinfo, found: Files) -> None:
    try:
        row = archive.parse_row(line)
    except BadArchiveError as error:
        found.torn.append(str(error))
        return
    found.rows[row.boot, row.seq] += 1
    found.days[day] += 1
    if archive.day_of(row.timestamp, zone) != day:
        found.unexpected.append(f"{day} has {line}")
    if row.meter_w != power_of(row.boot, row.seq):
        found.unexpected.append(f"{line}: never measured")
    if row.pv_w is not None and row.sum_w != round(row.meter_w + row.pv_w, 3):
        found.unexpected.append(f"{line}: a wrong sum")


def rows_in(data: Path, houses: list[str]) -> int:
    """How many rows there are, roughly and quickly."""
    paths = [path for house in houses for path in (data / house).glob("main/main_*.csv")]
    return sum(path.read_bytes().count(b"\n") - 1 for path in paths)


@dataclass
class Verdict:
    """What one fault cost one client."""

    fault: str
    client: str
    attempted: int
    acknowledged: int
    missing: set[Key]
    """Acknowledged, and not in the files."""
    duplicated: int
    recovered: int
    unexpected: list[str]
    strange: list[Key]
    """In the files, and never made."""
    first_confirm_s: float | None
    first_row_s: float | None

    @property
    def lost(self) -> int:
        return len(self.missing)

    @property
    def harm(self) -> int:
        """Everything that a user would find wrong in the files."""
        return self.lost + self.duplicated + len(self.unexpected) + len(self.strange)

    def __str__(self) -> str:
        return (
            f"fault={self.fault!r} client={self.client} attempted={self.attempted} "
            f"acknowledged={self.acknowledged} lost={self.lost} duplicated={self.duplicated} "
            f"recovered={self.recovered} unexpected={len(self.unexpected) + len(self.strange)} "
            f"first_confirm={_seconds(self.first_confirm_s)} first_row={_seconds(self.first_row_s)}"
        )

    def details(self) -> str:
        """The report, and the first of whatever is wrong."""
        wrong = {
            "missing": sorted(self.missing)[:SHOWN],
            "unexpected": self.unexpected[:SHOWN],
            "never made": self.strange[:SHOWN],
        }
        return f"{self}; " + "; ".join(f"{what}: {which}" for what, which in wrong.items() if which)


def verdict(
    fault: str,
    client: str,
    accounts: dict[str, Account],
    files: dict[str, Files],
    *,
    recovered: int,
    times_s: tuple[float | None, float | None],
) -> Verdict:
    """Compare the files of some houses with what their sources say."""
    missing, strange, unexpected = set[Key](), list[Key](), list[str]()
    for house, account in accounts.items():
        found = files[house]
        missing |= account.acknowledged - found.rows.keys()
        strange += sorted(found.rows.keys() - account.attempted)
        unexpected += found.unexpected + found.torn
    return Verdict(
        fault=fault,
        client=client,
        attempted=sum(len(account.attempted) for account in accounts.values()),
        acknowledged=sum(len(account.acknowledged) for account in accounts.values()),
        missing=missing,
        duplicated=sum(found.rows.total() - len(found.rows) for found in files.values()),
        recovered=recovered,
        unexpected=unexpected,
        strange=strange,
        first_confirm_s=times_s[0],
        first_row_s=times_s[1],
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"
