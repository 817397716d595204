"""`wattbus der-controller`: settings, bus and service put together."""

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from broker.connect import announce, open_bus, presence_of
from contracts.ids import refuse_case_twins
from der_controller.model import DerMemory, DerModel, DerSpec
from der_controller.service import Der, DerControllerService
from der_controller.settings import DerControllerSettings, InverterTable
from energy.errors import SpecError
from runtime.clock import Clock
from runtime.logs import get_log
from runtime.monitor import monitored
from runtime.process import Context, launch
from runtime.settings import Layered
from runtime.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns the exit code."""
    return launch(
        "der_controller",
        DerControllerSettings,
        serve,
        argv,
        description="Runs a house's batteries and cars: telemetry each second, commands obeyed and answered.",
        example="wattbus der-controller --house house-a --ders 2 --live-url mqtt://127.0.0.1:1883",
    )


async def serve(settings: Layered[DerControllerSettings], context: Context) -> None:
    """Run the service on the bus its settings name."""
    own = settings.base
    ders = build(own, context.clock, own.state_dir)
    presence = presence_of(own.house, "controller", "der")
    async with AsyncExitStack() as stack:
        client = f"der-controller-{own.house}"
        bus = await stack.enter_async_context(open_bus(own, context.clock, client=client, presence=presence))
        for der_id in ders:
            there = presence_of(own.house, "der", der_id)
            await stack.enter_async_context(announce(bus, context.clock, there))
        service = DerControllerService(own.house, ders, own.interval_s, bus, context.clock, context.life)
        log = get_log("der_controller")
        async with monitored(own, [bus.metrics, service.metrics], lambda: bus.ailing, log):
            await service.run()


def build(settings: DerControllerSettings, clock: Clock, state_dir: Path | None) -> dict[str, Der]:
    """The DERs their settings describe, each as it was left.

    Args:
        settings: the controller's.
        clock: the time it is.
        state_dir: where they are remembered; None remembers nothing.

    Raises:
        BadIdError: two ids that differ only in case.
        SpecError: a device that can't be.
        StoreError: a memory that can't be read.
    """
    tables = settings.tables()
    refuse_case_twins(list(tables), "DER")
    now = clock.now()
    ders = {}
    for der_id, table in tables.items():
        path = None if state_dir is None else state_dir / f"der-{settings.house}-{der_id}.json"
        store = Store(path, DerMemory, DerMemory(soc_percent=table.soc_percent, at=now))
        try:
            device = table.device(settings.timezone)
        except SpecError as error:
            where = f"house.{settings.house}.der_controller.devices.{der_id}"
            raise SpecError(f"{where}: {error}") from error
        spec = DerSpec(
            house=settings.house,
            der_id=der_id,
            device=device,
            safe_setpoint=table.safe_setpoint(),
            issuers=tuple(settings.issuers),
            project_id=table.project_id,
            is_standalone=table.is_standalone,
            baseline_kw=table.baseline_kw,
            contract_threshold_kw=table.contract_threshold_kw,
            meter_noise=table.meter_noise,
            seed=str(settings.seed),
        )
        pv_meter = table.meter if isinstance(table, InverterTable) else None
        ders[der_id] = Der(DerModel(spec, store.load(), now, clock.monotonic()), store, pv_meter)
    return ders


if __name__ == "__main__":
    sys.exit(main())
