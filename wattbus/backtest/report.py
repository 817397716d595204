"""The report: one HTML file with all it needs, plotly.js included."""

from collections.abc import Sequence
from html import escape

import msgspec
from plotly.offline import get_plotlyjs

from wattbus.backtest import charts
from wattbus.backtest.case import TITLES
from wattbus.backtest.charts import Chart, Shown
from wattbus.backtest.summary import House, Line, Results

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #24292f; }
body { max-width: 1060px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .3rem; }
p.note { color: #57606a; margin: .3rem 0 1rem; } p.bad { color: #b31d28; font-weight: 600; }
nav a { margin-right: 1rem; } a { color: #1f6feb; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #e6e8eb; }
th { color: #57606a; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
tr.mpc td { font-weight: 600; background: #f1f6ff; }
.chart { width: 100%; }
"""


def write_report(results: Results, shown: Sequence[Shown]) -> str:
    """The page.

    Args:
        results: the figures.
        shown: the flows of the same cases, in the same order.
    """
    named: dict[str, Chart] = {}
    sections = [
        _section(i, house, one, named)
        for i, (house, one) in enumerate(zip(results.houses, shown, strict=True))
    ]
    links = "".join(
        f'<a href="#house-{i}">{escape(house.name)}</a>' for i, house in enumerate(results.houses)
    )
    failed = "".join(f'<p class="bad">Not run: {escape(failure["why"])}</p>' for failure in results.failures)
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>wattbus backtest</title>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>Backtest</h1>"
        "<p class='note'>What each policy would have paid on the recorded days. Share: how much of what "
        "perfect foresight saves was saved. It knows all that will come: a bound, no policy. "
        "Other: wear, and what the battery holds less at the end than at the start.</p>"
        f"{failed}<nav>{links if len(sections) > 1 else ''}</nav>"
        f"{_sweeps(results.houses, named)}{''.join(sections)}"
    )
    return f"{page}<script>{_script(named)}</script></body></html>\n"


def _section(number: int, house: House, shown: Shown, named: dict[str, Chart]) -> str:
    both = [policy for policy in ("none", shown.best) if policy in shown.flows]
    pictures = {
        "costs": charts.costs(house),
        "week": charts.week(shown),
        "heat": charts.heat(shown, list(dict.fromkeys(both))),
        "months": charts.monthly(house),
        "peaks": charts.peaks(house),
    }
    cars = "".join(f", a car of {car}" for car in house.cars)
    told = (
        f"{house.length} from {house.begin[:10]}. Tariff {house.tariff} ({house.currency}), "
        f"on the clocks of {house.timezone}. Battery {house.battery}{cars}. "
        f"The house used {house.load_kwh:,.0f} kWh, its PV made {house.pv_kwh:,.0f} kWh."
    )
    return (
        f'<h2 id="house-{number}">{escape(house.name)}</h2><p class="note">{escape(told)}</p>'
        f"{_table(house.lines)}{_faults(house)}{_places(f'h{number}', pictures, named)}"
    )


def _sweeps(houses: Sequence[House], named: dict[str, Chart]) -> str:
    """One picture for each house that was run in several variants."""
    variants: dict[str, list[House]] = {}
    for house in houses:
        variants.setdefault(house.house, []).append(house)
    pictures = {
        name: charts.sweep(several)
        for name, several in variants.items()
        if len({one.currency for one in several}) == 1 and len(several) > 1
    }
    return _places("sweep", pictures, named)


def _places(prefix: str, pictures: dict[str, Chart], named: dict[str, Chart]) -> str:
    """Where the pictures go; their data is kept for the end of the page."""
    places = []
    for name, chart in pictures.items():
        place = f"{prefix}-{name}"
        named[place] = chart
        places.append(f'<div class="chart" id="{escape(place)}"></div>')
    return "".join(places)


def _table(lines: Sequence[Line]) -> str:
    heads = (
        "",
        "energy",
        "demand",
        "export",
        "other",
        "total",
        "peak kW",
        "cycles",
        "self-consumption",
        "share",
    )
    rows = [
        f'<tr class="{line.figures.policy}"><td>{TITLES[line.figures.policy]}</td>'
        + "".join(f"<td>{text}</td>" for text in _cells(line))
        + "</tr>"
        for line in lines
    ]
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"


def _cells(line: Line) -> list[str]:
    figures = line.figures
    own, share = figures.self_consumption_percent, line.share_percent
    money = (
        figures.energy,
        figures.demand,
        -figures.export,
        figures.degradation + figures.stored,
        figures.total,
    )
    return [
        *(f"{value + 0.0:,.2f}" if abs(figures.total) < 1000.0 else f"{value + 0.0:,.0f}" for value in money),  # noqa: PLR2004 - cents matter in a small sum only
        f"{figures.peak_kw:.1f}",
        f"{figures.cycles:.0f}",
        "" if own is None else f"{own:.0f} %",
        "" if share is None else f"{share:.0f} %",
    ]


def _faults(house: House) -> str:
    broken = [
        f"{TITLES[line.figures.policy]}: {name} {count} times"
        for line in house.lines
        for name, count in line.figures.violations.items()
        if count
    ]
    return f'<p class="bad">Violations: {escape(", ".join(broken))}</p>' if broken else ""


def _script(named: dict[str, Chart]) -> str:
    # A closing tag in a name must not end the script.
    data = msgspec.json.encode(named).decode().replace("<", "\\u003c")
    return (
        f"const charts = {data};"
        "for (const [place, chart] of Object.entries(charts))"
        " Plotly.newPlot(place, chart.data, chart.layout, {responsive: true, displaylogo: false});"
    )
