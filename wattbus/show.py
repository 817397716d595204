"""What `wattbus run` prints: the live table or the progress, and the summary at the end."""

from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from contracts.instant import Instant
from runtime.clock import Clock, SystemClock
from runtime.lifecycle import Lifecycle
from wattbus.scoreboard import HouseBoard
from wattbus.table import live_table

REFRESH_S = 0.5
PRINT_EVERY_S = 900.0
"""Where the output is no terminal: the table again after so much of the run's own time."""
PLAIN_WIDTH = 200
COSTS_ARE = (
    "Without and with the battery. Saved: on energy; what is stored more or less counts at the mean price to "
    "come.\nDemand: a month's charge, if these quarter-hour peaks were the month's."
)


class Show:
    """The terminal's side of a run."""

    def __init__(
        self,
        boards: Mapping[str, HouseBoard],
        clock: Clock,
        begin: Instant,
        end: Instant | None,
        zone: ZoneInfo,
    ) -> None:
        self._boards = boards
        self._clock = clock
        self._zone = zone
        self._begin = begin
        self._end = end
        self._console = Console()
        if not self._console.is_terminal:
            self._console = Console(width=PLAIN_WIDTH)
        self._note = ""
        self._page = ""

    def begin(self, window: tuple[int, int] | None, live_url: str, page: str = "") -> None:
        """Say what runs and how to look at it; `page` is the dashboard's address, if there is one."""
        houses = ", ".join(self._boards)
        until = "until Ctrl-C" if self._end is None else f"until {self._local(self._end)}"
        speed = (
            "as fast as it goes" if self._clock.is_virtual else f"at {self._clock.speed:g} times real time"
        )
        self._console.print(f"wattbus: {houses} from {self._local(self._begin)} {until}, {speed}")
        if page:
            self._page = page
            self._console.print(f"Dashboard: {page}")
        if window is not None:
            port, ws_port = window
            self._note = f"Subscribe: mosquitto_sub -h 127.0.0.1 -p {port} -t 'wattbus/#' -v"
            self._console.print(f"MQTT at mqtt://127.0.0.1:{port} and ws://127.0.0.1:{ws_port}. {self._note}")
        elif live_url:
            self._note = "Subscribe at your live broker to wattbus/#"

    def say(self, text: str) -> None:
        """One line of news, with the run's own time."""
        line = f"{self._clock.now().local(self._zone):%Y-%m-%d %H:%M:%S}  {text}"
        self._console.print(line, markup=False, highlight=False)

    async def run(self, watching: Lifecycle) -> None:
        """Keep the terminal up to date until told to stop."""
        if self._clock.is_virtual:
            await self._progress(watching)
        elif self._console.is_terminal:
            with Live(self._table(), console=self._console, refresh_per_second=4) as live:
                async for _ in watching.each(SystemClock().every(REFRESH_S)):
                    live.update(self._table())
        else:
            async for tick in watching.each(self._clock.every(PRINT_EVERY_S)):
                if tick.at > self._begin:
                    self._console.print(self._table())

    async def _progress(self, watching: Lifecycle) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TimeElapsedColumn(),
        )
        with Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        ) as progress:
            total = None if self._end is None else self._end.seconds_since(self._begin)
            task = progress.add_task("", total=total)
            async for tick in watching.each(self._clock.every(PRINT_EVERY_S)):
                done = tick.at.seconds_since(self._begin)
                progress.update(task, completed=done, description=self._local(tick.at))

    def _table(self) -> Group:
        return live_table(
            self._boards.values(),
            self._clock.now().local(self._zone),
            self._note,
            self._console.width,
            self._page,
        )

    def _local(self, moment: Instant) -> str:
        return f"{moment.local(self._zone):%Y-%m-%d %H:%M %Z}"

    def summary(self, rows: Mapping[str, int], out: Path | None) -> None:
        """The table at the end, and `summary.json` beside the data."""
        now = self._clock.now()
        hours = now.seconds_since(self._begin) / 3600
        self._console.print(_energies(self._boards, rows, hours))
        # Not a table's caption: that is broken at the table's width.
        self._console.print("Commands: sent, then accepted / rejected / expired.", highlight=False)
        self._console.print(_costs(self._boards))
        self._console.print(COSTS_ARE, highlight=False)
        unbalanced = sum(board.unbalanced for board in self._boards.values())
        snapshots = sum(board.snapshots for board in self._boards.values())
        self._console.print(f"{snapshots - unbalanced} of {snapshots} snapshots in balance.")
        if out is None:
            self._console.print("The rows were kept nowhere: --out DIR keeps the CSV files.")
            return
        summaries = {house: _as_data(board, rows.get(house, 0)) for house, board in self._boards.items()}
        (out / "summary.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(summaries), indent=1) + b"\n"
        )
        self._console.print(
            f"CSV files: {out / 'DATA'}   log: {out / 'log'}   the same as data: {out / 'summary.json'}"
        )


def _energies(boards: Mapping[str, HouseBoard], rows: Mapping[str, int], hours: float) -> Table:
    table = Table(title=f"After {hours:.1f} h", title_justify="left")
    table.add_column("House", no_wrap=True)
    for heading in (
        "CSV rows",
        "Load kWh",
        "PV kWh",
        "EV kWh",
        "Charged kWh",
        "Used kWh",
        "Commands",
        "Answers",
    ):
        table.add_column(heading, justify="right")
    for house, board in boards.items():
        energy = board.energy
        kwh = (energy.load_kwh, energy.pv_kwh, energy.ev_kwh, energy.charged_kwh, energy.discharged_kwh)
        answers = " / ".join(str(board.answers[result]) for result in ("accepted", "rejected", "expired"))
        table.add_row(house, str(rows.get(house, 0)), *(f"{x:.2f}" for x in kwh), str(board.sent), answers)
    return table


def _costs(boards: Mapping[str, HouseBoard]) -> Table:
    table = Table(title="Costs", title_justify="left")
    table.add_column("House", no_wrap=True)
    for heading in ("Energy", "with", "Stored kWh", "Saved", "Peak kW", "with", "Demand", "with"):
        table.add_column(heading, justify="right")
    for house, board in boards.items():
        without, with_battery = board.bill_without.costs(), board.bill.costs()
        table.add_row(
            house,
            f"{without.energy - without.export:.2f}",
            f"{with_battery.energy - with_battery.export:.2f}",
            f"{board.stored_kwh():+.2f}",
            f"{board.saved():+.2f} {board.currency}",
            f"{without.peak_kw:.2f}",
            f"{with_battery.peak_kw:.2f}",
            f"{without.demand:.2f}",
            f"{with_battery.demand:.2f}",
        )
    return table


def _as_data(board: HouseBoard, rows: int) -> dict[str, object]:
    return {
        "rows": rows,
        "energy_kwh": {
            key.removesuffix("_kwh"): round(value, 6) for key, value in vars(board.energy).items()
        },
        "stored_kwh": round(board.stored_kwh(), 6),
        "commands": {"sent": board.sent, **board.answers},
        "snapshots": board.snapshots,
        "unbalanced": board.unbalanced,
        "currency": board.currency,
        "saved": round(board.saved(), 6),
        "without_battery": board.bill_without.costs(),
        "with_battery": board.bill.costs(),
    }
