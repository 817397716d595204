"""The text that Prometheus reads, against Prometheus's own parser."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runtime.metrics import Metric, counter, counters, exposition, gauge, gauges
from runtime.web import SourceCollector


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_and_gauges() -> None:
    text = exposition([counter("wattbus_rows", "Rows.", 3), gauge("wattbus_lag_seconds", "Lag.", 0.25)])
    assert text == (
        "# HELP wattbus_rows_total Rows.\n# TYPE wattbus_rows_total counter\nwattbus_rows_total 3.0\n"
        "# HELP wattbus_lag_seconds Lag.\n# TYPE wattbus_lag_seconds gauge\nwattbus_lag_seconds 0.25\n"
    )


def test_several_labels() -> None:
    metric = Metric("wattbus_power_watts", "gauge", "Power.", {("a", "b"): 1.0}, ("house", "meter"))
    assert read(exposition([metric])) == {("wattbus_power_watts", (("house", "a"), ("meter", "b"))): 1.0}


# Its parser ends a line at each of these; a label of ours is an id or a class's name.
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])), st.floats(allow_nan=False)
    )
)
def test_whatever_stands_in_a_label_is_read_back(values: dict[str, float]) -> None:
    text = exposition([gauges("wattbus_age_seconds", 'A "quoted" \\ help.', "message", values)])
    assert read(text) == {
        ("wattbus_age_seconds", (("message", key),)): value for key, value in values.items()
    }


def test_an_api_shows_the_same() -> None:
    metrics = [
        counters("wattbus_heard", "Heard.", "message", {"Alert": 2}),
        gauge("wattbus_connected", "There.", 1),
    ]
    registry = CollectorRegistry()
    registry.register(SourceCollector(lambda: metrics))
    assert read(generate_latest(registry).decode()) == read(exposition(metrics))
