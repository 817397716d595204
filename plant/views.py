"""What the plant API says of the plant."""

from contracts.instant import Instant
from plant.model import CONTAINERS, GENERATORS, W_PER_MW, PlantModel, Split
from plant.wire import Latest, Part, Reading, Totals, Trust


def stamp(instant: Instant) -> str:
    """An instant as the plant API writes it: microseconds always, and Z."""
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def latest_of(plant: PlantModel, now: Instant) -> Latest:
    """The reading as it is collected now."""
    generation, consumption = plant.generation, plant.consumption
    return Latest(
        reading=Reading(
            collection_timestamp=stamp(now),
            consumption=_parts(CONTAINERS, consumption, now),
            generation=_parts(GENERATORS, generation, now),
            totals=Totals(
                consumption_mw=mw(consumption.total_w),
                exported_mw=mw(plant.available_w),
                generation_mw=mw(generation.total_w),
            ),
            trust=Trust(confidence_score=1.0, status="trusted", summary="Test data - all checks passed"),
        )
    )


def _parts(names: tuple[str, str], split: Split, at: Instant) -> dict[str, Part]:
    return {
        name: Part(source_timestamp=stamp(at), status="success", value_mw=mw(power_w))
        for name, power_w in zip(names, (split.first_w, split.second_w), strict=True)
    }


def mw(power_w: int) -> float:
    """Whole watts as MW: six decimals, written in full."""
    return power_w / W_PER_MW
