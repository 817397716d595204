"""A home battery over a day: charged at noon, used in the evening; its losses, and how warm it gets.

    python examples/simulate_battery.py

The same model that `wattbus der-controller` runs, without a bus.
"""

from energy.battery import BatterySpec, BatteryState, step
from energy.thermal import home_battery

SPEC = BatterySpec(capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=5.0, efficiency_roundtrip=0.9)
THERMAL = home_battery(SPEC.capacity_kwh, ambient_c=25.0)
STEP_S = 60.0
SETPOINTS_KW = {11: 4.0, 12: 4.0, 18: -3.0, 19: -3.0, 20: -3.0}
"""By hour; at all others it rests."""


def main() -> None:
    """Print the battery at each hour, and the day's account."""
    state = BatteryState(SPEC.min_soc_percent, THERMAL.ambient_c)
    charged_kwh = discharged_kwh = 0.0
    print("hour  setpoint kW  mean kW   SoC %  temperature C")
    for hour in range(24):
        setpoint_kw = SETPOINTS_KW.get(hour, 0.0)
        kwh = 0.0
        for _ in range(round(3600 / STEP_S)):
            state, power_kw = step(SPEC, state, setpoint_kw, STEP_S, THERMAL)
            kwh += power_kw * STEP_S / 3600
        charged_kwh += max(kwh, 0.0)
        discharged_kwh += max(-kwh, 0.0)
        print(
            f"{hour:4d} {setpoint_kw:12.1f} {kwh:8.2f} {state.soc_percent:7.1f} {state.temperature_c:14.1f}"
        )
    print(f"charged {charged_kwh:.2f} kWh, gave back {discharged_kwh:.2f} kWh")


if __name__ == "__main__":
    main()
