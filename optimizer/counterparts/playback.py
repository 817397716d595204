"""A house's recorded days as if they were now: what the Reporter foretells, and what then happens."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from contracts.instant import Instant
from energy.rebase import to_present
from energy.series import Series, read_series
from runtime.errors import UsageError

W_PER_KW = 1000.0


CsvPath = Annotated[Path | None, Meta(description="a .csv file or a folder of them, with a column timestamp")]
LoadColumn = Annotated[str, Meta(description="its column of consumption [W]")]
SolarColumn = Annotated[str, Meta(description="its column of production [W]; empty: no PV")]
Port = Annotated[int, Meta(ge=0, le=65535, description="its port; 0: any free one")]


def open_playback(csv: Path | None, load_column: str, solar_column: str) -> "Playback":
    """The recorded days.

    Raises:
        UsageError: no file is named.
        SeriesError: it can't be read.
    """
    if csv is None:
        raise UsageError("--csv is missing: what was recorded, e.g. --csv examples/data/ca_house1_60min.csv")
    solar = Recording(read_series(csv, solar_column)) if solar_column else None
    return Playback(Recording(read_series(csv, load_column)), solar)


class Recording:
    """A recorded power [W], repeated so that it never ends."""

    def __init__(self, recorded: Series) -> None:
        self._recorded = recorded
        self._moved = recorded

    def mean_kw(self, start: Instant, interval_s: float) -> float:
        """The mean over an interval [kW], never negative; it does not run over the record's end.

        Raises:
            OutsideSeriesError: the record is too short to be moved there.
        """
        if not self._moved.start <= start < self._moved.end:
            self._moved = to_present(self._recorded, start)
        interval_s = min(interval_s, self._moved.end.seconds_since(start))
        return max(0.0, self._moved.mean(start, interval_s)) / W_PER_KW


class Playback:
    """A house's load and solar power at any time."""

    def __init__(self, load: Recording, solar: Recording | None) -> None:
        self._load = load
        self._solar = solar

    def load_kw(self, start: Instant, interval_s: float) -> float:
        """Mean consumption."""
        return self._load.mean_kw(start, interval_s)

    def solar_kw(self, start: Instant, interval_s: float) -> float:
        """Mean production."""
        return 0.0 if self._solar is None else self._solar.mean_kw(start, interval_s)
