"""A week's flows, state of charge and price as an SVG that needs nothing to be shown."""

from collections.abc import Sequence
from datetime import datetime, timedelta

WIDE, MARGIN = 1000, 60
COLOURS = {"load": "#8a8f98", "PV": "#e0a100", "grid": "#1f6feb", "battery": "#2da44e", "price": "#bc4c7a"}


class _Panel:
    """One set of axes, from `top` on and `tall` high."""

    def __init__(self, top: float, tall: float, low: float, high: float, unit: str) -> None:
        self._top, self._tall, self._low, self._high, self._unit = top, tall, low, high, unit

    def y(self, value: float) -> float:
        return self._top + self._tall * (self._high - value) / (self._high - self._low)

    def frame(self) -> str:
        ticks = sorted({self._low, 0.0 if self._low < 0 < self._high else self._low, self._high})
        marks = "".join(
            f'<line x1="{MARGIN}" x2="{WIDE - 10}" y1="{self.y(tick):.1f}" y2="{self.y(tick):.1f}" '
            f'stroke="#c8ccd2" stroke-width="0.7"/>'
            f'<text x="{MARGIN - 6}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
            for tick in ticks
        )
        return f'{marks}<text x="4" y="{self._top + self._tall / 2:.0f}">{self._unit}</text>'

    def line(self, values: Sequence[float], colour: str, *, steps: bool = False) -> str:
        wide = (WIDE - 10 - MARGIN) / len(values)
        points = []
        for i, value in enumerate(values):
            x = MARGIN + i * wide
            points.append(f"{x:.1f},{self.y(value):.1f}")
            if steps:
                points.append(f"{x + wide:.1f},{self.y(value):.1f}")
        return f'<polyline fill="none" stroke="{colour}" stroke-width="1.4" points="{" ".join(points)}"/>'


def draw(
    *,
    title: str,
    start: datetime,
    load_kw: Sequence[float],
    pv_kw: Sequence[float],
    grid_kw: Sequence[float],
    soc_percent: Sequence[float],
    price: Sequence[float],
    currency: str,
) -> str:
    """The picture; all series have one value each quarter of an hour.

    Args:
        title: heads it.
        start: of the first quarter, on the place's clocks.
        load_kw: consumption.
        pv_kw: production.
        grid_kw: + import / - export.
        soc_percent: of the battery, before each quarter.
        price: of import, per kWh.
        currency: of the price.
    """
    high = max(*load_kw, *pv_kw, *grid_kw)
    low = min(0.0, *grid_kw)
    power = _Panel(50, 220, round(low - 0.5, 0) if low < 0 else 0.0, float(int(high) + 1), "kW")
    charge = _Panel(300, 110, 0.0, 100.0, "%")
    cost = _Panel(440, 80, 0.0, float(int(max(price)) + 1) if max(price) > 1 else max(price), currency)
    parts = [
        power.frame(),
        power.line(load_kw, COLOURS["load"]),
        power.line(pv_kw, COLOURS["PV"]),
        power.line(grid_kw, COLOURS["grid"]),
        charge.frame(),
        charge.line(soc_percent, COLOURS["battery"]),
        cost.frame(),
        cost.line(price, COLOURS["price"], steps=True),
        *_days(start, len(load_kw)),
        *_legend(),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} 560" font-family="sans-serif" '
        f'font-size="12" fill="#24292f"><rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{MARGIN}" y="20" font-size="15" font-weight="bold">{title}</text>{"".join(parts)}</svg>\n'
    )


def _days(start: datetime, steps: int) -> list[str]:
    wide = (WIDE - 10 - MARGIN) / steps
    marks = []
    for i in range(steps):
        at = start + timedelta(minutes=15 * i)
        if (at.hour, at.minute) == (0, 0):
            x = MARGIN + i * wide
            marks.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="50" y2="520" stroke="#e3e6ea"/>'
                f'<text x="{x + 3:.1f}" y="540">{at:%a %d %b}</text>'
            )
    return marks


def _legend() -> list[str]:
    names = {
        "load": "load",
        "PV": "PV",
        "grid": "grid",
        "battery": "state of charge",
        "price": "import price",
    }
    return [
        f'<rect x="{MARGIN + 130 * i}" y="30" width="12" height="4" fill="{COLOURS[key]}"/>'
        f'<text x="{MARGIN + 130 * i + 17}" y="37">{text}</text>'
        for i, (key, text) in enumerate(names.items())
    ]
