"""The live table of `wattbus run`: each house's flows, the last command and why."""

from collections.abc import Iterable
from datetime import datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from contracts.messages import DerTelemetry
from wattbus.scoreboard import HouseBoard

NOTHING = Text("-", style="dim")
SILENT = Text("silent", style="red")
SILENT_S = 30.0
"""A device that has said nothing for so long is not shown with what it said last."""
WIDE = 140
"""From so many columns on the commands and reasons stand in the table."""


def live_table(
    boards: Iterable[HouseBoard], now: datetime, note: str, width: int = WIDE, page: str = ""
) -> Group:
    """What is happening now; on a narrow terminal the reasons stand below the table.

    Signs are those of the bus: battery + charging, grid + import.

    Args:
        boards: one row each.
        now: on the site's own clocks.
        note: stands below.
        width: of the terminal [characters].
        page: the dashboard's address, if there is one; stands in the head.
    """
    boards = list(boards)
    wide = width >= WIDE
    title = Text(f"wattbus  {now:%Y-%m-%d %H:%M:%S %Z}  {page}".rstrip())
    table = Table(title=title, expand=wide, title_justify="left")
    for heading in ("House", "Load kW", "PV kW", "Battery kW", "SoC %", "EV kW", "Grid kW", "Price"):
        table.add_column(heading, justify="left" if heading == "House" else "right", no_wrap=True)
    if wide:
        table.add_column("Last command", no_wrap=True)
        table.add_column("Why", ratio=1)
    for board in boards:
        table.add_row(*_row(board, now), *((_command(board), _why(board)) if wide else ()))
    reasons = [] if wide else [Text.assemble((f"{board.house}: ", "bold"), _why(board)) for board in boards]
    return Group(table, *reasons, Text(note, style="dim"))


def _row(board: HouseBoard, now: datetime) -> list[Text]:
    battery, ev, snapshot = board.battery, board.ev, board.snapshot
    silent = battery is not None and _is_silent(battery, now)
    return [
        Text(board.house, style="bold"),
        number(None if board.reading is None else board.reading.power_w / 1000),
        number(None if board.pv is None or board.pv.pv_w is None else board.pv.pv_w / 1000, "yellow"),
        SILENT if silent else signed(None if battery is None else battery.current_output, "green", "magenta"),
        number(None if battery is None else battery.current_soc, "dim" if silent else "", digits=0),
        SILENT if ev is not None and _is_silent(ev, now) else _ev(board),
        signed(
            None if snapshot is None else snapshot.grid_import_kw - snapshot.grid_export_kw, "red", "cyan"
        ),
        _price(board) if ev is not None or battery is not None else NOTHING,
    ]


def _is_silent(der: DerTelemetry, now: datetime) -> bool:
    """Whether what it said last is no news any more."""
    return (now - der.timestamp).total_seconds() > SILENT_S


def number(value: float | None, style: str = "", digits: int = 2) -> Text:
    """A number that is not known is a dash."""
    return NOTHING if value is None else Text(f"{value:.{digits}f}", style=style)


def signed(value: float | None, plus: str, minus: str) -> Text:
    """A power with its sign, in the colour of its direction."""
    if value is None:
        return NOTHING
    value = round(value, 2) + 0.0  # no -0.00
    return Text(f"{value:+.2f}", style=plus if value > 0 else minus if value < 0 else "dim")


def _ev(board: HouseBoard) -> Text:
    ev = board.ev
    if ev is None:
        return NOTHING
    if not ev.connected:
        return Text("away", style="dim")
    return Text(
        f"{ev.current_output:.2f} ({ev.current_soc or 0:.0f} %)", style="blue" if ev.current_output else ""
    )


def _price(board: HouseBoard) -> Text:
    price = board.price_now()
    if price is None or board.price is None:
        return NOTHING
    return Text(f"{price:.2f} {board.price.currency}/kWh")


def _command(board: HouseBoard) -> Text:
    command, ack = board.command, board.ack
    if command is None:
        return NOTHING
    what = (
        f"{command.setpoint_a:.0f} A"
        if command.setpoint_a is not None
        else f"{command.setpoint_kw or 0:+.2f} kW"
    )
    if ack is None:
        return Text(f"{command.der_id} {what}")
    style = "green" if ack.result == "accepted" else "red"
    return Text.assemble(f"{command.der_id} {what} ", (ack.result, style))


def _why(board: HouseBoard) -> Text:
    return Text(" ".join(decision.sentence for _, decision in sorted(board.decisions.items())) or "-")
