"""The results in a terminal of 80 columns."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wattbus.backtest.case import TITLES
from wattbus.backtest.summary import FineWeek, House, Line, Results

GAP_SHOWN_H = 1.0
LEGEND = Text(
    "Peak: kW. Self: of the PV, what the house used [%]. Share: of what foresight saves [%]. Other: wear, "
    "and what the battery holds less at the end.",
    style="dim",
)


def table_of(results: Results) -> RenderableType:
    """A table for each case, and what is to be said of it."""
    parts: list[RenderableType] = []
    for house in results.houses:
        parts += [_table(house), *_notes(house), Text("")]
    return Group(*parts, LEGEND)


def _table(house: House) -> Table:
    heads = [
        house.name,
        f"{house.length} from {house.begin[:10]}",
        f"{house.tariff}, {house.currency}",
    ]
    heads += [f"battery {house.battery}", *(f"car {car}" for car in house.cars)]
    table = Table(
        title="  ".join(heads),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("Policy", no_wrap=True)
    for heading in ("Energy", "Demand", "Export", "Other", "Total"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("Peak", "Cycles", "Self", "Share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in house.lines:
        table.add_row(*_row(line, _digits(house.lines)))
    return table


def _digits(lines: Sequence[Line]) -> int:
    """Cents matter in a small sum only."""
    return 2 if max(abs(line.figures.total) for line in lines) < 1000.0 else 0  # noqa: PLR2004 - of any currency


def _row(line: Line, digits: int) -> list[str]:
    figures = line.figures
    other = figures.degradation + figures.stored
    money = (figures.energy, figures.demand, -figures.export, other, figures.total)
    own, share = figures.self_consumption_percent, line.share_percent
    return [
        TITLES[figures.policy],
        *(_amount(value, digits) for value in money),
        f"{figures.peak_kw:.1f}",
        f"{figures.cycles:.0f}",
        "-" if own is None else f"{own:.0f}",
        "-" if share is None else f"{share:.0f}",
    ]


def _amount(value: float, digits: int) -> str:
    """Without a sign where nothing is left of it."""
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def _notes(house: House) -> list[Text]:
    notes = [text for line in house.lines if (text := _errors(line)) is not None]
    broken = {
        f"{TITLES[line.figures.policy]}: {name}": count
        for line in house.lines
        for name, count in line.figures.violations.items()
        if count
    }
    told = ", ".join(f"{name} {count} times" for name, count in broken.items())
    notes.append(Text(f"Violations: {told or 'none'}", style="bold red" if broken else "green"))
    if house.week is not None:
        notes.append(_week(house.week, house.currency))
    if house.gap_h >= GAP_SHOWN_H:
        notes.append(
            Text(f"{house.gap_h:.1f} h were not measured: the last value stands for them.", style="yellow")
        )
    return notes


def _errors(line: Line) -> Text | None:
    errors = line.figures.errors
    if errors is None:
        return None
    return Text(
        f"{errors.plans} plans. Mean error over 24 h: load {errors.load_mae_kw:.2f} kW, "
        f"PV {errors.pv_mae_kw:.2f} kW, grid {errors.grid_mae_kw:.2f} kW; a day's energy: "
        f"planned {errors.planned_cost_a_day:.2f}, paid {errors.real_cost_a_day:.2f}, "
        f"off by {errors.day_cost_mae:.2f}."
    )


def _week(week: FineWeek, currency: str) -> Text:
    off = week.fine_total - week.total
    share = f" ({100.0 * off / week.total:+.2f} %)" if week.total else ""
    return Text(
        f"The week from {week.begin[:10]} at a tick of 10 s: {week.fine_total:.2f} {currency}, "
        f"at 15 min {week.total:.2f}: {off:+.2f}{share}."
    )
