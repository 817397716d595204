"""What the optimizer counts, as Prometheus reads it."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from optimizer.service import OptimizerService
from optimizer.views import dispatch_of
from runtime.clock import Clock


class PlanCounts(Collector):
    """The service's own counters, read when they are asked for."""

    def __init__(self, optimizer: OptimizerService, clock: Clock) -> None:
        self._optimizer = optimizer
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        board = self._optimizer.board
        plans = CounterMetricFamily("wattbus_plans", "Plans published, by status.", labels=["status"])
        for status, count in board.by_status.items():
            plans.add_metric([status], count)
        yield plans
        replans = CounterMetricFamily("wattbus_replans", "Plans out of turn, by cause.", labels=["cause"])
        for cause, count in self._optimizer.replans.items():
            replans.add_metric([cause], count)
        yield replans
        missed = "Plans that had to miss a limit, by its name."
        violations = CounterMetricFamily("wattbus_violations", missed, labels=["limit"])
        for limit, count in board.violations.items():
            violations.add_metric([limit], count)
        yield violations
        skipped = "Turns of houses that passed without a plan, and triggers while one was made."
        yield CounterMetricFamily("wattbus_skipped_runs", skipped, value=self._optimizer.skipped_runs)
        yield CounterMetricFamily("wattbus_solve_seconds", "All solves together.", value=board.solve_s)
        yield GaugeMetricFamily("wattbus_houses", "Houses heard of.", value=len(self._optimizer.houses))
        yield from self._forecasts()
        yield from self._plans()

    def _forecasts(self) -> Iterator[Metric]:
        off = "Mean absolute error of the forecasts of the last days."
        errors = GaugeMetricFamily("wattbus_forecast_error_kilowatts", off, labels=["house", "kind"])
        for house, kind, kw in self._optimizer.forecast_errors():
            errors.add_metric([house, kind], kw)
        yield errors
        fallbacks = GaugeMetricFamily(
            "wattbus_forecast_fallback", "Whether a forecast stands in for another.", labels=["house", "kind"]
        )
        for house, named in self._optimizer.board.forecasts.items():
            for kind, name in named.items():
                fallbacks.add_metric([house, kind], float(name.endswith("-fallback")))
        yield fallbacks

    def _plans(self) -> Iterator[Metric]:
        board, now = self._optimizer.board, self._clock.now()
        labels = ["house", "battery"]
        age = GaugeMetricFamily("wattbus_plan_age_seconds", "Since the last plan.", labels=labels)
        power = GaugeMetricFamily("wattbus_dispatch_kilowatts", "The command that holds now.", labels=labels)
        for house, batteries in board.schedules.items():
            for battery, plan in batteries.items():
                age.add_metric([house, battery], now.seconds_since(plan.issued_at))
                power.add_metric([house, battery], dispatch_of(plan, now).battery_power_kw)
        yield age
        yield power
