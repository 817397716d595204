"""What a site file says of a house: how it is planned and controlled, its battery and its cars."""

from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from der_controller.devices import ChargingCar, StorageUnit
from der_controller.settings import DerControllerSettings
from energy.tariff import Tariff, load_tariff
from energy.zones import zone_of
from optimizer.settings import OptimizerSettings
from orchestrator.inputs import HouseLimits
from orchestrator.settings import OrchestratorSettings
from runtime.errors import UsageError
from runtime.settings import Layered, houses_in, load, read_site
from wattbus.backtest.case import Devices

FUSE_KW = 16.0


class HouseSite(NamedTuple):
    """A house before its days."""

    devices: Devices
    tariff: Tariff
    settings: OptimizerSettings
    limits: HouseLimits


class SiteFile:
    """A site file, or none: then the settings' own defaults hold.

    Raises:
        UsageError: an unknown key or a wrong value.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._flags = [] if path is None else ["--config", str(path)]
        self._optimizer: Layered[OptimizerSettings] = load("optimizer", OptimizerSettings, self._flags)
        self._orchestrator: Layered[OrchestratorSettings] = load(
            "orchestrator", OrchestratorSettings, self._flags
        )
        document = {} if path is None else read_site(path)
        self._controlled = {
            house for house in houses_in(document) if "der_controller" in document["house"][house]
        }

    def house(self, name: str, tariff: str | None, timezone: str | None) -> HouseSite:
        """What holds for a house.

        Args:
            name: of the house.
            tariff: by name or path, instead of the site's.
            timezone: on whose clocks the tariff's hours are; None: the site's, or the tariff's own.

        Raises:
            UsageError: devices that can't be run.
            EnergyError: no such tariff or timezone.
        """
        settings, orchestrator = self._optimizer.of(name), self._orchestrator.of(name)
        chosen = load_tariff(tariff or settings.tariff)
        if timezone is not None or self._path is not None:
            chosen = structs.replace(chosen, zone=zone_of(timezone or settings.timezone))
        limits = HouseLimits(
            **{field: getattr(orchestrator, field) for field in HouseLimits.__struct_fields__}
        )
        if self._path is None:
            # Without a site, what is sold flows into the grid; where nothing is paid for it, it is curtailed.
            export_kw = FUSE_KW if any(period.export_price for period in chosen.periods) else 0.0
            settings = structs.replace(settings, max_grid_export_kw=export_kw)
            limits = structs.replace(limits, max_grid_export_kw=export_kw)
        return HouseSite(self._devices(name, chosen.zone.key), chosen, settings, limits)

    def _devices(self, house: str, timezone: str) -> Devices:
        if house not in self._controlled:
            return Devices(None)
        own = load("der_controller", DerControllerSettings, [*self._flags, "--house", house]).base
        batteries, cars = [], list[ChargingCar]()
        for der_id, table in own.tables().items():
            match table.device(timezone):
                case StorageUnit(battery=battery):
                    batteries.append(battery)
                case ChargingCar() as car:
                    cars.append(car)
                case _:
                    raise UsageError(
                        f"{self._path}: {house}/{der_id}: a backtest runs batteries and cars: take it out"
                    )
        if len(batteries) > 1:
            raise UsageError(
                f"{self._path}: {house}: a backtest runs one battery a house, not {len(batteries)}"
            )
        return Devices(batteries[0] if batteries else None, tuple(cars))
