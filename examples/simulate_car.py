"""A car over a week: when it is at home, what its trips use, and what it charges at a limit of 10 A.

    python examples/simulate_car.py

The same models that `wattbus der-controller` runs (IEC 61851: 0, or whole amperes from 6 up), without a bus.
"""

from zoneinfo import ZoneInfo

from contracts.instant import Instant
from energy.errors import SpecError
from energy.ev import EvseSpec, EvSpec, EvState, TripPattern, check_limit, driven_percent, presence_at, step

EVSE = EvseSpec(max_current_a=16, phases=3)
CAR = EvSpec(capacity_kwh=60.0, target_soc_percent=80.0, max_charge_kw=11.0)
HABITS = TripPattern(timezone="Europe/Madrid", leaves_hour=7.5, returns_hour=18.0)
MONDAY = Instant.parse("2024-06-03T00:00:00+02:00")
LIMIT_A = 10
STEP_S = 300.0
SEED = "example"


def main() -> None:
    """Print the car in the morning, at noon and in the evening of each day."""
    try:
        check_limit(EVSE, 5)
    except SpecError as error:
        print(f"The charge point refuses: {error}")
    state, charged_kwh = EvState(60.0, connected=True), 0.0
    print("time           at home  SoC %  power kW  charged kWh")
    for i in range(round(7 * 86400 / STEP_S)):
        now = MONDAY.after(i * STEP_S)
        there = presence_at(HABITS, SEED, now)
        used = driven_percent(HABITS, SEED, now.after(-STEP_S), now)
        state = EvState(max(0.0, state.soc_percent - used), there.connected)
        limit_a = LIMIT_A if state.soc_percent < CAR.target_soc_percent else 0
        state, drawn_kw = step(EVSE, CAR, state, limit_a, STEP_S)
        charged_kwh += drawn_kw * STEP_S / 3600
        local = now.local(ZoneInfo(HABITS.timezone))
        if (local.hour, local.minute) in ((6, 0), (12, 0), (20, 0)):
            home = "yes" if there.connected else "no"
            car = f"{home:>7} {state.soc_percent:6.1f} {drawn_kw:9.2f} {charged_kwh:12.1f}"
            print(f"{local:%a %d, %H:%M}  {car}")


if __name__ == "__main__":
    main()
