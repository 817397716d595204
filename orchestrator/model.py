"""One house as the orchestrator knows it: what was heard and ordered, and what a tick makes of it. Pure."""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from contracts.instant import Instant
from contracts.messages import Decision, DerTelemetry, DispatchCommand, PowerSnapshot
from contracts.orders import OperatorRequest
from orchestrator.alarms import Severity, Trouble
from orchestrator.balancer import Balancer
from orchestrator.devices import MISSES_ALERT, DerState, Link
from orchestrator.errors import OrchestratorError, PowerBalanceError
from orchestrator.flow import Flows, compute_flows
from orchestrator.inputs import Controlled, HouseLimits, constraints_of, inputs_of, objectives_of
from orchestrator.issuer import Issuer
from orchestrator.known import BATTERY, EV, LOAD, PV, Known
from orchestrator.limits import Constraints, EconomicObjectives, PowerFlowInputs, Verdict
from orchestrator.requests import Answer, Orders, judge, lapse
from orchestrator.resting import Stopped, house_alone, inverter_verdicts, rest, stopped_by
from orchestrator.switching import Switching
from orchestrator.wear import DayWear, Wear

FlowModel = Callable[[PowerFlowInputs, Constraints, EconomicObjectives], Flows]

ALONE = ("safe default", "Something does not add up: the house runs on the grid alone until the next look.")
UNBALANCED = "the power flow did not add up a moment ago"
UTC = ZoneInfo("UTC")


class Outcome(NamedTuple):
    """What one tick says: nothing of a house that has not been heard of lately but the safe commands."""

    snapshot: PowerSnapshot | None
    decisions: list[Decision]
    commands: list[DispatchCommand]
    troubles: list[Trouble]
    """What is wrong now."""
    lapsed: list[str]
    """What persons had ordered and has ended."""
    error: OrchestratorError | None
    """Why the safe default holds instead of a decision."""
    lines: Sequence[str] = ()
    """What the balancer says of a plant's loads, for the log."""


class HouseModel:
    """A house.

    Args:
        house: its name.
        limits: what the settings say of it.
        zone: the place's clocks.
        orders: what persons have ordered in earlier lives.
        flows: how power is given out.
        wear: what its batteries did today in an earlier life.
    """

    def __init__(
        self,
        house: str,
        limits: HouseLimits,
        zone: ZoneInfo = UTC,
        orders: Orders | None = None,
        flows: FlowModel = compute_flows,
        wear: DayWear | None = None,
    ) -> None:
        self.house = house
        self.known = Known(limits.reading_fresh_s, Wear(zone, wear))
        self.links: dict[str, Link] = {}
        self.last: Outcome | None = None
        self.decided_at: Instant | None = None
        self.violations = 0
        self.balance_errors = 0
        self._limits = limits
        self._zone = zone
        self._flows = flows
        self._switching = Switching()
        self._balancer = Balancer(house, limits)
        self._unbalanced = False
        self.orders = orders or Orders()

    @property
    def orders(self) -> Orders:
        """What persons have ordered."""
        return self._orders

    @orders.setter
    def orders(self, orders: Orders) -> None:
        self._orders = orders
        self.constraints = constraints_of(self._limits, orders)

    def judge(self, request: OperatorRequest, now: Instant) -> Answer:
        """What becomes of a person's request; nothing is changed yet."""
        kinds = (BATTERY, EV, LOAD)
        ders = {der_id: der.type for der_id, der in self.known.ders.items() if der.type in kinds}
        return judge(self._orders, request, now, ders, self._zone)

    def objectives(self, now: Instant) -> EconomicObjectives:
        """What is worth doing now."""
        ders = [*self.known.ders_of(BATTERY, now), *self.known.ders_of(EV, now)]
        return objectives_of(self.known, self._orders, self._limits, [der.der_id for der in ders], now)

    def tick(self, now: Instant, issuer: Issuer) -> Outcome:
        """Decide for this instant; whatever is wrong, the house gets its load and every DER a command."""
        orders, lapsed = lapse(self._orders, now)
        if lapsed:
            self.orders = orders
        batteries, cars = self.known.ders_of(BATTERY, now), self.known.ders_of(EV, now)
        stopped = self._stopped([*cars, *batteries], now)
        paused = self._paused([*cars, *batteries], now)
        controlled = Controlled(
            [der for der in batteries if der.der_id not in stopped],
            [der for der in cars if der.der_id not in stopped],
            paused,
        )
        inputs = inputs_of(
            self.house,
            self.known,
            orders,
            controlled,
            self._switching,
            now,
            curtails=self._curtails,
        )
        dispatched = (*controlled.batteries, *controlled.cars)
        driven = [der.der_id for der in dispatched if der.der_id not in paused]
        objectives = objectives_of(self.known, orders, self._limits, driven, now)
        flows, error = self._decide(inputs, objectives)
        verdicts = [*flows.verdicts]
        verdicts += [rest(der, stopped[der.der_id]) for der in (*cars, *batteries) if der.der_id in stopped]
        self._switching.note(cars, verdicts, now)
        if flows.snapshot is not None and (inverters := self.known.ders_of(PV, now)):
            verdicts += inverter_verdicts(inverters, flows.snapshot)
        shared = self._balancer.tick(self.known, self.links, orders, now)
        told = [*verdicts, *shared.verdicts]
        self.decided_at = now
        self.last = Outcome(
            flows.snapshot,
            [self._decision(verdict, objectives, now) for verdict in (*verdicts, *shared.changed)],
            [issuer.command(verdict, self.house, now, self._limits.ttl_s) for verdict in told],
            [*self._troubles(flows, error), *shared.troubles],
            lapsed,
            error,
            shared.lines,
        )
        return self.last

    def state_of(self, der: DerTelemetry, now: Instant) -> DerState:
        """How it stands with one DER."""
        link = self.links.get(der.der_id) or Link()
        return link.state(fresh=self.known.is_fresh(der.timestamp, now), online=der.is_online)

    def _decide(
        self, inputs: PowerFlowInputs, objectives: EconomicObjectives
    ) -> tuple[Flows, OrchestratorError | None]:
        self._unbalanced = False
        try:
            return self._flows(inputs, self.constraints, objectives), None
        except PowerBalanceError as error:
            self._unbalanced = True
            self.balance_errors += 1
            return house_alone(inputs, self.constraints, *ALONE), error
        except OrchestratorError as error:
            self.violations += 1
            return house_alone(inputs, self.constraints, *ALONE), error

    @property
    def _curtails(self) -> bool:
        return (
            self.last is not None and self.last.snapshot is not None and self.last.snapshot.curtailed_kw > 0
        )

    def _stopped(self, ders: list[DerTelemetry], now: Instant) -> dict[str, Stopped]:
        found = {}
        for der in ders:
            hold = self._orders.hold_on(der.der_id, now) if self._orders.holds else None
            if (why := stopped_by(der, hold, self.links.get(der.der_id))) is not None:
                found[der.der_id] = why
        return found

    def _paused(self, ders: list[DerTelemetry], now: Instant) -> dict[str, str]:
        """The DERs without economic dispatch, and why, in words that fit into a sentence."""
        if self._unbalanced:
            return {der.der_id: UNBALANCED for der in ders}
        if not self._orders.holds:
            return {}
        holds = ((der.der_id, self._orders.hold_on(der.der_id, now)) for der in ders)
        return {der_id: f"{hold.user} has paused it" for der_id, hold in holds if hold is not None}

    def _troubles(self, flows: Flows, error: OrchestratorError | None) -> list[Trouble]:
        troubles = [Trouble(self.house, "fuse", "critical", text) for text in flows.overloads[:1]]
        if error is not None:
            name = "no-balance" if isinstance(error, PowerBalanceError) else "violation"
            troubles.append(Trouble(self.house, name, "critical", str(error)))
        if flows.snapshot is None and error is None and self.known.has_meter:
            text = "the house's meter has not been heard of lately: everything rests"
            troubles.append(Trouble(self.house, "stale-readings", "warning", f"{self.house}: {text}"))
        for der_id, link in self.links.items():
            if link.is_failing:
                troubles.append(_failing(self.house, der_id, link))
        return troubles

    def _decision(self, verdict: Verdict, objectives: EconomicObjectives, now: Instant) -> Decision:
        return Decision(
            house=self.house,
            der_id=verdict.der_id,
            timestamp=now,
            tier=verdict.tier,
            limit=verdict.limit,
            import_price=objectives.import_price,
            currency=objectives.currency,
            urgency=verdict.urgency,
            asked_kw=round(verdict.asked_kw, 4),
            given_kw=round(verdict.given_kw, 4),
            alternative=verdict.alternative,
            sentence=verdict.sentence,
        )


def _failing(house: str, der_id: str, link: Link) -> Trouble:
    severity: Severity = "critical" if link.misses >= MISSES_ALERT else "warning"
    if link.result in ("rejected", "expired"):
        text = f"{house}/{der_id} has refused {link.misses} commands in a row: {link.why or link.result}"
        return Trouble(house, "der-rejects", severity, text, der_id)
    text = f"{house}/{der_id} has not answered {link.misses} commands in a row"
    return Trouble(house, "der-silent", severity, text, der_id)
