"""The report's pictures, as Plotly's own data: what each shows, and nothing of how a page is made."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np

from optimizer.history import FloatArray
from wattbus.backtest.bill import prices_of
from wattbus.backtest.case import TITLES, Case, Flows, Policy
from wattbus.backtest.summary import House

Chart = dict[str, Any]
"""`data` and `layout`, as Plotly has them."""

QUARTERS_A_DAY = 96
QUARTER_H = 0.25
COLOURS: dict[Policy, str] = {
    "none": "#9aa0a8",
    "rule": "#e0a100",
    "mpc": "#1f6feb",
    "perfect": "#2da44e",
}
LINES = {"load": "#57606a", "PV": "#e0a100", "grid": "#1f6feb", "battery": "#8250df", "car": "#bc4c00"}
PARTS = {"energy": "#1f6feb", "demand": "#bc4c7a", "other": "#9aa0a8", "export": "#2da44e"}
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#24292f"}
BOUGHT = ((0.0, "#ffffff"), (0.5, "#f0883e"), (1.0, "#8e1519"))
"""The colours of what is bought, by its share of the most."""
SOLD = "#1a7f37"


class Shown(NamedTuple):
    """A case with its flows, by policy."""

    case: Case
    flows: Mapping[Policy, Flows]

    @property
    def best(self) -> Policy:
        """The policy whose days are shown: the optimizer, or what comes nearest to it."""
        return next(policy for policy in ("mpc", "rule", "perfect", "none") if policy in self.flows)


def costs(house: House) -> Chart:
    """Each policy's costs by component; what was earned goes below zero."""
    names = [TITLES[line.figures.policy] for line in house.lines]
    parts = {
        "energy": [line.figures.energy for line in house.lines],
        "demand": [line.figures.demand for line in house.lines],
        "other": [line.figures.degradation + line.figures.stored for line in house.lines],
        "export": [-line.figures.export for line in house.lines],
    }
    data: list[Chart] = [
        {"type": "bar", "name": name, "x": names, "y": _rounded(values), "marker": {"color": PARTS[name]}}
        for name, values in parts.items()
        if any(values)
    ]
    totals = [line.figures.total for line in house.lines]
    tops = [sum(max(0.0, values[i]) for values in parts.values()) for i in range(len(names))]
    data.append(
        {
            "type": "scatter",
            "mode": "text",
            "x": names,
            "y": _rounded(tops),
            "text": [f"<b>{total:,.0f}</b>" for total in totals],
            "textposition": "top center",
            "showlegend": False,
            "hoverinfo": "skip",
        }
    )
    layout = {"barmode": "relative", "yaxis": {"title": {"text": house.currency}, "tickformat": ",~r"}}
    return _chart(data, "What it costs", 380, layout)


def monthly(house: House) -> Chart:
    """Each month's bill, policy beside policy."""
    data = [
        {
            "type": "bar",
            "name": TITLES[line.figures.policy],
            "x": [month.month for month in line.figures.months],
            "y": _rounded(month.total for month in line.figures.months),
            "marker": {"color": COLOURS[line.figures.policy]},
        }
        for line in house.lines
    ]
    axis = {"title": {"text": house.currency}, "tickformat": ",~r"}
    return _chart(
        data, "Monthly bills", 340, {"barmode": "group", "yaxis": axis, "xaxis": {"type": "category"}}
    )


def peaks(house: House) -> Chart:
    """Each month's highest mean import, whatever the period."""
    data = [
        {
            "type": "bar",
            "name": TITLES[line.figures.policy],
            "x": [month.month for month in line.figures.months],
            "y": _rounded(max(peak.kw for peak in month.peaks) for month in line.figures.months),
            "marker": {"color": COLOURS[line.figures.policy]},
        }
        for line in house.lines
    ]
    axis = {"title": {"text": "kW"}}
    layout = {"barmode": "group", "yaxis": axis, "xaxis": {"type": "category"}}
    return _chart(data, "Monthly peaks of what is bought", 320, layout)


def week(shown: Shown) -> Chart:
    """A week in the middle: flows, state of charge, price."""
    case, flows = shown.case, shown.flows[shown.best]
    days = min(7, len(_quarters(case, case.days.load_kw)) // QUARTERS_A_DAY) or 1
    first = _first_of_week(case, days)
    span = slice(first, first + days * QUARTERS_A_DAY)
    start = case.days.start.after(first * QUARTER_H * 3600.0)
    wide = range(len(_quarters(case, case.days.load_kw)[span]))
    at = [
        start.after(i * QUARTER_H * 3600.0).local(case.tariff.zone).strftime("%Y-%m-%d %H:%M") for i in wide
    ]
    powers = {
        "load": case.days.load_kw,
        "PV": case.days.pv_kw,
        "grid": flows.grid_kw,
        "battery": flows.battery_kw,
        "car": flows.car_kw,
    }
    data = [
        _line(name, at, _quarters(case, kw)[span], "y", LINES[name])
        for name, kw in powers.items()
        if kw.any()
    ]
    if len(flows.soc_percent):
        soc = _quarters(case, flows.soc_percent[:-1], mean=False)[span]
        data.append(
            {**_line("state of charge", at, soc, "y2", "#8250df"), "fill": "tozeroy", "showlegend": False}
        )
    prices = prices_of(case)
    price = _quarters(case, prices.import_price)[span]
    data.append({**_line("import price", at, price, "y3", "#bc4c7a"), "showlegend": False})
    layout = {
        "xaxis": {"anchor": "y3", "tickformat": "%a %d %b", "dtick": 86400000},
        "yaxis": {"domain": [0.46, 1.0], "title": {"text": "kW"}, "zeroline": True},
        "yaxis2": {"domain": [0.23, 0.41], "title": {"text": "charge %"}, "range": [0, 100]},
        "yaxis3": {
            "domain": [0.0, 0.17],
            "title": {"text": f"{case.tariff.currency}/kWh"},
            "rangemode": "tozero",
        },
        "hovermode": "x unified",
    }
    return _chart(data, f"A week: {TITLES[shown.best]}", 620, layout)


def heat(shown: Shown, policies: Sequence[Policy]) -> Chart:
    """Grid power by day and time of day, one map for each of two policies, in one scale of colours."""
    case = shown.case
    maps = [(policy, _by_day(case, shown.flows[policy].grid_kw)) for policy in policies]
    sells = any(float(np.nanmin(cells)) < 0 for _, (_, cells) in maps)
    most = max(float(np.nanmax(np.abs(cells))) for _, (_, cells) in maps) or 1.0
    scale = [[0.0, SOLD], *([0.5 + at / 2, colour] for at, colour in BOUGHT)] if sells else list(BOUGHT)
    clock = [f"{i // 4:02}:{15 * (i % 4):02}" for i in range(QUARTERS_A_DAY)]
    gap = 0.06
    share = (1.0 - gap * (len(maps) - 1)) / len(maps)
    data: list[Chart] = []
    layout: Chart = {"annotations": []}
    for i, (policy, (days, cells)) in enumerate(maps):
        axis = "" if i == 0 else str(i + 1)
        left = i * (share + gap)
        data.append(
            {
                "type": "heatmap",
                "x": days,
                "y": clock,
                "z": [_rounded(row) for row in cells],
                "xaxis": f"x{axis}",
                "yaxis": f"y{axis}",
                "zmin": -most if sells else 0.0,
                "zmax": most,
                "colorscale": scale,
                "showscale": i == len(maps) - 1,
                "colorbar": {"title": {"text": "kW"}, "thickness": 12},
                "hovertemplate": "%{x} %{y}: %{z} kW<extra></extra>",
            }
        )
        layout[f"xaxis{axis}"] = {"domain": [left, left + share], "anchor": f"y{axis}"}
        layout[f"yaxis{axis}"] = {
            "anchor": f"x{axis}",
            "autorange": "reversed",
            "tickvals": clock[::16],
            "showticklabels": i == 0,
        }
        layout["annotations"].append(
            {
                "text": TITLES[policy],
                "x": left + share / 2,
                "y": 1.06,
                "xref": "paper",
                "yref": "paper",
                "showarrow": False,
            }
        )
    return _chart(
        data,
        "Grid power by day and hour: " + ("red is bought, green is sold" if sells else "what is bought"),
        420,
        layout,
    )


def sweep(houses: Sequence[House]) -> Chart:
    """One house's variants: what each policy pays."""
    policies = [line.figures.policy for line in houses[0].lines]
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": TITLES[policy],
            "x": [house.variant for house in houses],
            "y": _rounded(house.lines[k].figures.total for house in houses),
            "line": {"color": COLOURS[policy], "width": 2},
        }
        for k, policy in enumerate(policies)
    ]
    axis = {"title": {"text": houses[0].currency}, "tickformat": ",~r"}
    return _chart(
        data, f"{houses[0].house}: what each size costs", 360, {"yaxis": axis, "xaxis": {"type": "category"}}
    )


def _chart(data: Sequence[Chart], title: str, height: int, layout: Chart) -> Chart:
    usual = {
        "title": {"text": title, "x": 0.0, "xanchor": "left", "font": {"size": 16}},
        "height": height,
        "font": FONT,
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 70, "r": 20, "t": 70, "b": 45},
        "legend": {"orientation": "h", "x": 0.0, "y": 1.0, "yanchor": "bottom"},
        "colorway": list(LINES.values()),
    }
    axes = {key: {**_AXIS, **value} for key, value in layout.items() if "axis" in key}
    for key in ("xaxis", "yaxis"):
        axes.setdefault(key, _AXIS)
    return {"data": list(data), "layout": {**usual, **layout, **axes}}


_AXIS: Chart = {"gridcolor": "#e6e8eb", "zerolinecolor": "#8a8f98", "automargin": True}


def _line(name: str, at: Sequence[str], values: FloatArray, axis: str, colour: str) -> Chart:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(at),
        "y": _rounded(values),
        "yaxis": axis,
        "line": {"color": colour, "width": 1.6, "shape": "hv"},
    }


def _rounded(values: Any) -> list[float | None]:  # noqa: ANN401 - numbers in any collection
    return [None if np.isnan(value) else round(float(value), 3) for value in values]


def _quarters(case: Case, values: FloatArray, *, mean: bool = True) -> FloatArray:
    """Ticks as quarters of an hour: their means, or what stood at their beginning."""
    each = max(1, round(QUARTER_H / case.tick_h))
    whole = len(values) // each * each
    rows = values[:whole].reshape(-1, each)
    quarters: FloatArray = rows.mean(axis=1) if mean else rows[:, 0]
    return quarters


def _first_of_week(case: Case, days: int) -> int:
    """The first quarter of the week in the middle: a local midnight."""
    quarters = len(_quarters(case, case.days.load_kw))
    first = max(0, (quarters - days * QUARTERS_A_DAY) // 2)
    for i in range(min(first, QUARTERS_A_DAY)):
        local = case.days.start.after((first - i) * QUARTER_H * 3600.0).local(case.tariff.zone)
        if (local.hour, local.minute) == (0, 0):
            return first - i
    return first


def _by_day(case: Case, values: FloatArray) -> tuple[list[str], FloatArray]:
    """A row for each quarter of the day on the place's clocks, a column for each day."""
    quarters, zone = _quarters(case, values), case.tariff.zone
    first, last = case.days.start.local(zone).date(), case.end.after(-1.0).local(zone).date()
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    cells = np.full((QUARTERS_A_DAY, len(days)), np.nan)
    for i, value in enumerate(quarters):
        local = case.days.start.after(i * QUARTER_H * 3600.0).local(zone)
        cells[local.hour * 4 + local.minute // 15, (local.date() - first).days] = value
    return [day.isoformat() for day in days], cells
