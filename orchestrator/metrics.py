"""What the control loop counts, as Prometheus reads it."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.devices import DER_STATES
from orchestrator.service import OrchestratorService
from runtime.clock import Clock


class LoopCounts(Collector):
    """The service's own counters, read when they are asked for."""

    def __init__(self, service: OrchestratorService, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        yield from self._loop()
        yield from self._said()
        yield from self._houses()

    def _loop(self) -> Iterator[Metric]:
        counts, issuer = self._service.counts, self._service.issuer
        yield CounterMetricFamily("wattbus_ticks", "Ticks of the control loop.", value=counts.ticks)
        late = "Ticks skipped, because the one before took too long."
        yield CounterMetricFamily("wattbus_late_ticks", late, value=counts.late_ticks)
        yield SummaryMetricFamily(
            "wattbus_tick_seconds", "Time of a tick.", count_value=counts.ticks, sum_value=counts.tick_s
        )
        yield GaugeMetricFamily("wattbus_longest_tick_seconds", "So far.", value=counts.longest_tick_s)
        violations = "Times a house got the safe default for a limit or an input's range."
        yield CounterMetricFamily("wattbus_violations", violations, value=counts.violations)
        balance = "Times sources and sinks differed."
        yield CounterMetricFamily("wattbus_balance_errors", balance, value=counts.balance_errors)
        yield GaugeMetricFamily("wattbus_epoch", "Of its commands.", value=issuer.epoch)
        commands = "1: it commands; 0: another orchestrator does."
        yield GaugeMetricFamily("wattbus_commands_now", commands, value=int(not issuer.stands_down))

    def _said(self) -> Iterator[Metric]:
        counts, sender = self._service.counts, self._service.sender
        commands = CounterMetricFamily(
            "wattbus_commands", "Commands, by what became of them.", labels=["result"]
        )
        for result, count in counts.commands.items():
            commands.add_metric([result], count)
        yield commands
        yield CounterMetricFamily("wattbus_unsent", "Messages the broker did not take.", value=sender.unsent)
        superseded = "Messages never sent, because a newer one came first."
        yield CounterMetricFamily("wattbus_superseded", superseded, value=sender.superseded)
        alerts = CounterMetricFamily("wattbus_alerts", "Alerts raised.", labels=["name", "severity"])
        for (name, severity), count in counts.alerts.items():
            alerts.add_metric([name, severity], count)
        yield alerts
        lost = "Alerts no broker took."
        yield CounterMetricFamily("wattbus_alerts_lost", lost, value=self._service.alerting.lost)
        requests = CounterMetricFamily("wattbus_requests", "Persons' requests.", labels=["outcome"])
        for outcome, count in counts.requests.items():
            requests.add_metric([outcome], count)
        yield requests
        yield CounterMetricFamily(
            "wattbus_not_audited", "Requests not written down.", value=counts.not_audited
        )

    def _houses(self) -> Iterator[Metric]:
        now, houses = self._clock.now(), self._service.houses.values()
        yield GaugeMetricFamily("wattbus_houses", "Houses heard of.", value=len(houses))
        troubles = "Troubles that stand now."
        yield GaugeMetricFamily("wattbus_troubles", troubles, value=len(self._service.alerting.alarms))
        states = Counter(house.state_of(der, now) for house in houses for der in house.known.ders.values())
        ders = GaugeMetricFamily("wattbus_ders", "DERs, by how they answer.", labels=["state"])
        for state in DER_STATES:
            ders.add_metric([state], states[state])
        yield ders
