"""The table of `wattbus top`: every house in a row. Pure."""

from collections.abc import Iterable

from rich.console import Group
from rich.table import Table
from rich.text import Text

from contracts.instant import Instant
from dashboard.views import Row
from wattbus.table import NOTHING, SILENT_S, number, signed

WIDE = 130
"""From so many columns on the reasons stand in the table."""
STYLES = {"offline": "red", "silent": "red", "stopped": "yellow", "safe": "yellow", "ok": "green"}


def fleet_table(rows: Iterable[Row], now: Instant, width: int) -> Group:
    """The houses by name; alerts, and on a narrow terminal the reasons, stand below the table.

    Signs are those of the bus: battery + charging, grid + import.

    Args:
        rows: the houses.
        now: by the clock of who looks.
        width: of the terminal [characters].
    """
    rows = sorted(rows, key=lambda row: row.house)
    wide = width >= WIDE
    table = Table(
        title=f"{len(rows)} {'house' if len(rows) == 1 else 'houses'}  {now}",
        title_justify="left",
        expand=wide,
    )
    table.add_column("House", no_wrap=True)
    for heading in ("Load kW", "PV kW", "Grid kW", "Battery kW", "SoC %", "EV kW"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Age", justify="right", no_wrap=True)
    table.add_column("Alerts", justify="right", no_wrap=True)
    if wide:
        table.add_column("Why", ratio=1)
    for row in rows:
        table.add_row(*_cells(row, now), *((_why(row),) if wide else ()))
    below = [] if wide else [_line(row, _why(row)) for row in rows if row.why]
    below += [
        _line(row, Text(f"{trouble.severity}: {trouble.text}", "red"))
        for row in rows
        for trouble in row.troubles
    ]
    return Group(table, *below)


def state_of(row: Row, now: Instant) -> str:
    """The worst that can be said of a house: offline, silent, stopped by a person, in a safe state, or ok."""
    age_s = _age_s(row, now)
    if not row.online or not all(device.online for device in row.devices):
        return "offline"
    if age_s is None or age_s > SILENT_S:
        return "silent"
    if row.held:
        return "stopped"
    if any(device.following == "safe" and not device.away for device in row.devices):
        return "safe"
    return "ok"


def _cells(row: Row, now: Instant) -> list[Text]:
    state = state_of(row, now)
    style = "dim" if state in ("offline", "silent") else ""
    cells = [
        number(row.load),
        number(row.pv, "yellow"),
        signed(row.grid, "red", "cyan"),
        signed(row.battery, "green", "magenta"),
        number(row.soc, digits=0),
        number(row.ev, "blue" if row.ev else ""),
    ]
    age_s = _age_s(row, now)
    return [
        Text(row.house, style="bold"),
        *(Text(cell.plain, style=style) if style else cell for cell in cells),
        Text(state, style=STYLES[state]),
        NOTHING if age_s is None else Text(_age(age_s)),
        Text(str(len(row.troubles)), style="red") if row.troubles else NOTHING,
    ]


def _age_s(row: Row, now: Instant) -> float | None:
    """Since the house's meter, or without one its devices, last spoke."""
    spoke = [row.at] if row.at is not None else [device.at for device in row.devices]
    return max(now.unix_ms - max(spoke), 0) / 1000 if spoke else None


def _age(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"  # noqa: PLR2004 - two hours


def _why(row: Row) -> Text:
    """The devices' reasons; the loads share what there is, so that the last of them tells it for all."""
    loads = {device.der for device in row.devices if device.kind == "flexible_load"}
    shared = [reason for reason in row.why if reason.der in loads and reason.tier == "economic"]
    last = max(shared, key=lambda reason: reason.at, default=None)
    told = [reason.sentence for reason in row.why if reason is last or reason not in shared]
    return Text(" ".join(told) or "-")


def _line(row: Row, text: Text) -> Text:
    return Text.assemble((f"{row.house}: ", "bold"), text)
