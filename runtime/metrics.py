"""What a service counts and measures, as text that Prometheus reads; by the standard library alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]


class Metric(NamedTuple):
    """One name, and its value for each combination of labels."""

    name: str
    """With its unit last, such as `wattbus_lag_seconds`; without the `_total` that a counter gets."""
    kind: Literal["counter", "gauge"]
    help: str
    values: Mapping[Labels, float]
    labels: Labels = ()
    """The names of the labels, as many as each key of `values` has parts."""


Source = Callable[[], Iterable[Metric]]
"""Gives what a part counts, as it is when it is asked."""


def counter(name: str, help_text: str, value: float) -> Metric:
    """Something that only rises."""
    return Metric(name, "counter", help_text, {(): value})


def gauge(name: str, help_text: str, value: float) -> Metric:
    """Something that rises and falls."""
    return Metric(name, "gauge", help_text, {(): value})


def counters(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    """One counter for each value of a label."""
    return Metric(name, "counter", help_text, {(key,): value for key, value in values.items()}, (label,))


def gauges(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    """One gauge for each value of a label."""
    return Metric(name, "gauge", help_text, {(key,): value for key, value in values.items()}, (label,))


def exposition(metrics: Iterable[Metric]) -> str:
    """The metrics in Prometheus's text format.

    Source: Prometheus documentation, "Exposition formats", text format 0.0.4.
    """
    return "".join(f"{line}\n" for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
    help_text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {metric.kind}"
    for values, value in metric.values.items():
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in zip(metric.labels, values, strict=True))
        yield f"{name}{{{pairs}}} {float(value)!r}" if pairs else f"{name} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
