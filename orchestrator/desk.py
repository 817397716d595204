"""Where persons' requests come in: judged, kept, written down, and told to everybody."""

from collections.abc import Callable, Mapping
from typing import Literal

from contracts.orders import OperatorRequest
from orchestrator.alarms import Notice, Trouble
from orchestrator.alerting import Alerting
from orchestrator.audit import Audit, AuditLine, Outcome
from orchestrator.counts import Counts
from orchestrator.memory import Memory
from orchestrator.model import HouseModel
from orchestrator.requests import Answer, Done, Refused, Repeated
from runtime.clock import Clock
from runtime.errors import StoreError
from runtime.logs import Log


class Desk:
    """Carries out requests, or says why not.

    Args:
        houses: those heard of.
        memory: what outlives a restart.
        audit: every request and what became of it.
        alerting: tells.
        decide: lets a house be decided at once.
        tell: says on the bus what is in force in a house.
        counts: counts.
        clock: the time.
        log: the service's.
    """

    def __init__(
        self,
        houses: Mapping[str, HouseModel],
        memory: Memory,
        audit: Audit,
        alerting: Alerting,
        decide: Callable[[HouseModel], None],
        tell: Callable[[HouseModel], None],
        counts: Counts,
        clock: Clock,
        log: Log,
    ) -> None:
        self._houses = houses
        self._memory = memory
        self._audit = audit
        self._alerting = alerting
        self._decide = decide
        self._tell = tell
        self._counts = counts
        self._clock = clock
        self._log = log

    def order(self, request: OperatorRequest, via: Literal["bus", "http"]) -> Answer:
        """Carry out a request of a house that has been heard of."""
        house = self._houses[request.house]
        answer = house.judge(request, self._clock.now())
        if isinstance(answer, Done):
            answer = self._carry_out(house, request, answer)
        match answer:
            case Done(sentence=text):
                self._write_down(request, via, "done", text)
                self._log.info("request", via=via, done=text)
                name = f"operator-{request.action.replace('_', '-')}"
                self._alerting.tell(Notice(request.house, name, "info", text))
                self._tell(house)
                self._decide(house)
            case Repeated(sentence=text):
                self._write_down(request, via, "repeated", text)
            case Refused(reason=text):
                self._write_down(request, via, "refused", text)
                self._log.warning("request refused", via=via, why=text)
                self._alerting.report(Trouble(request.house, "request-refused", "info", text, request.user))
        return answer

    def lapsed(self, house: str, ended: list[str]) -> None:
        """What had been ordered has ended by itself."""
        for text in ended:
            self._alerting.tell(Notice(house, "operator-over", "info", f"{house}: {text}"))
        try:
            self._memory.keep_orders(self._houses)
        except StoreError as error:
            self._log.error("orders not stored", house=house, why=str(error))
        self._tell(self._houses[house])

    def _carry_out(self, house: HouseModel, request: OperatorRequest, answer: Done) -> Answer:
        """Keep it first: what would not outlive a restart is refused. A safe state is not to be refused."""
        before = house.orders
        house.orders = answer.orders
        try:
            self._memory.keep_orders(self._houses)
        except StoreError as error:
            if request.action != "safe":
                house.orders = before
                return Refused(f"{request.house}: {request.action} can't be kept: {error}")
            self._log.error("order not stored", house=request.house, why=str(error))
        return answer

    def _write_down(
        self, request: OperatorRequest, via: Literal["bus", "http"], outcome: Outcome, text: str
    ) -> None:
        self._counts.requests[outcome] += 1
        line = AuditLine(at=self._clock.now(), via=via, outcome=outcome, text=text, request=request)
        try:
            self._audit.append(line)
        except StoreError as error:
            self._counts.not_audited += 1
            self._log.error("not audited", request=text, why=str(error))
