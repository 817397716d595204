"""What Home Assistant is told: valid there, and counters that never run backwards."""

from typing import Any

import jinja2
import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import encode
from contracts.instant import Instant
from contracts.messages import Decision, PowerSnapshot, PriceForecast
from home_assistant.discovery import Teller
from home_assistant.messages import DeviceConfig, config_at, der_state_at, house_state_at
from home_assistant.model import GAP_MAX_S, Energies, HouseModel
from tests.conftest import START
from tests.home_assistant_schema import DEVICE_DISCOVERY, STATE_MAX, TOPIC, complaints
from tests.unit.test_optimizer_model import der

TELLER = Teller("wattbus/site/home_assistant/main/status", "0.1.0", 60)
IDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


def snapshot(at: Instant, **values: float) -> PowerSnapshot:
    zero = {
        "pv_kw": 0.0, "house_load_kw": 0.0, "battery_power_kw": 0.0, "ev_power_kw": 0.0, "grid_import_kw": 0.0,
        "grid_export_kw": 0.0,
    }  # fmt: skip
    return PowerSnapshot(house="house-a", timestamp=at, **{**zero, **values})


def battery(at: Instant, kw: float, **more: Any) -> Any:
    return der(at, house="house-a", der_id="battery", current_output=kw, current_soc=50.0, **more)


def car(at: Instant, kw: float) -> Any:
    return der(at, house="house-a", der_id="car", type="electric_vehicle", current_output=kw, connected=True)


def price(at: Instant) -> PriceForecast:
    steps = [0.1, 0.2, 0.3]
    return PriceForecast(
        house="house-a", tariff="t", issued_at=at, start=at, step_s=900.0, currency="EUR", import_price=steps,
        export_price=steps, demand_price=steps,
    )  # fmt: skip


def plain(message: Any) -> Any:
    return msgspec.json.decode(encode(message))


CONFIGS = [
    (TELLER.house("house-a", "EUR"), HouseModel(Energies()).house_state(START)),
    (TELLER.der(battery(START, 1.0)), None),
    (TELLER.der(car(START, 1.0)), None),
]


@pytest.mark.parametrize("config", [config for config, _ in CONFIGS], ids=lambda config: config.device.model)
def test_home_assistant_takes_each_device(config: DeviceConfig) -> None:
    told = plain(config)
    jsonschema_rs.validator_for(DEVICE_DISCOVERY).validate(told)
    for name, component in told["components"].items():
        assert complaints(component) == [], name


def test_what_home_assistant_would_not_take_is_noticed() -> None:
    told = plain(TELLER.house("house-a", "EUR"))
    validator = jsonschema_rs.validator_for(DEVICE_DISCOVERY)
    for spoil in ("device", "origin", "components"):
        assert not validator.is_valid({key: value for key, value in told.items() if key != spoil})
    assert not validator.is_valid({**told, "state_topic": "wattbus/#"})
    energy = told["components"]["load_kwh"]
    assert complaints({**energy, "unit_of_measurement": "kW"})
    assert complaints({**energy, "state_class": "measurement"})


def test_the_energy_dashboard_finds_what_it_needs() -> None:
    house = TELLER.house("house-a", None).components
    of_battery = TELLER.der(battery(START, 1.0)).components
    counters = [house[key] for key in ("grid_import_kwh", "grid_export_kwh", "pv_kwh", "load_kwh")]
    counters += [of_battery["charged_kwh"], of_battery["discharged_kwh"]]
    for counter in counters:
        assert (counter.device_class, counter.state_class, counter.unit_of_measurement) == (
            "energy", "total_increasing", "kWh",
        )  # fmt: skip


def test_the_price_comes_with_its_currency() -> None:
    assert "import_price" not in TELLER.house("house-a", None).components
    assert TELLER.house("house-a", "CRC").components["import_price"].unit_of_measurement == "CRC/kWh"


@given(IDS, IDS, IDS, IDS)
def test_no_two_devices_share_a_topic_or_an_id(house: str, der_id: str, other: str, other_der: str) -> None:
    mine, theirs = (config_at(house, der_id), config_at(other, other_der))
    assert (mine.name == theirs.name) == ((house, der_id) == (other, other_der))
    for address in (mine, config_at(house)):
        assert TOPIC.fullmatch(address.name.removeprefix("homeassistant/"))
    for name in (house_state_at(house).name, der_state_at(house, der_id).name):
        assert not TOPIC.match(name.removeprefix("homeassistant/"))  # no configuration
    assert config_at(house).name != config_at(house, "house").name


def rendered(config: DeviceConfig, state: Any) -> dict[str, str]:
    """As Home Assistant does it: None becomes "None", which it takes for unknown."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    return {
        key: environment.from_string(component.value_template).render(value_json=plain(state))
        for key, component in config.components.items()
    }


def test_each_template_finds_its_value() -> None:
    model = HouseModel(Energies())
    sentence = "It charges, because power is cheap. " * 20
    for message in (
        snapshot(START, pv_kw=3.0, house_load_kw=1.0, grid_export_kw=1.0, battery_power_kw=1.0),
        battery(START, 1.0),
        car(START, 2.0),
        price(START),
        Decision(
            house="house-a", der_id="battery", timestamp=START, tier="economic", limit="price", asked_kw=1.0,
            given_kw=1.0, sentence=sentence,
        ),
    ):  # fmt: skip
        model.hear(message)
    now = START.after(1000)
    of_house = rendered(TELLER.house("house-a", "EUR"), model.house_state(START))
    assert of_house["pv_kw"] == "3.0"
    assert of_house["grid_kw"] == "-1.0"
    assert of_house["import_price"] == "0.1"
    assert float(of_house["pv_kwh"]) == 0
    of_battery = rendered(TELLER.der(battery(START, 1.0)), model.der_state("battery", START))
    assert of_battery["soc_percent"] == "50.0"
    assert of_battery["decision"] == sentence[:STATE_MAX]
    assert rendered(TELLER.der(car(START, 2.0)), model.der_state("car", START))["connected"] == "ON"
    # Later, nobody has said anything: only what is counted, and the price to come, is still known.
    assert rendered(TELLER.house("house-a", "EUR"), model.house_state(now)) == {
        **of_house, "load_kw": "None", "pv_kw": "None", "grid_kw": "None", "import_price": "0.2",
    }  # fmt: skip
    assert rendered(TELLER.der(battery(START, 1.0)), model.der_state("battery", now))["power_kw"] == "None"
    assert not model.is_alive(now)


def test_energies_are_powers_over_time_and_nothing_is_made_up_for_a_gap() -> None:
    model = HouseModel(Energies(load=100.0))
    flows = {"pv_kw": 4.0, "curtailed_kw": 1.0, "house_load_kw": 2.0, "grid_export_kw": 1.0}
    for second in range(0, 3610, 10):
        model.hear(snapshot(START.after(second), **flows))
        model.hear(battery(START.after(second), 1.5 if second < 1800 else -3.0))
        model.hear(car(START.after(second), 2.0))
    energies = model.energies
    assert energies.load == pytest.approx(102.0)
    assert energies.pv == pytest.approx(3.0)
    assert energies.grid_import == 0
    assert energies.grid_export == pytest.approx(1.0)
    assert energies.charged == {"battery": pytest.approx(0.75), "car": pytest.approx(2.0)}
    assert energies.discharged == {"battery": pytest.approx(1.5)}
    before = msgspec.json.encode(energies)
    model.hear(snapshot(START.after(3610 + GAP_MAX_S), **flows))
    assert msgspec.json.encode(energies) == before


@given(st.lists(st.tuples(st.floats(-300, 300), st.floats(0, 1e4), st.floats(-1e4, 1e4)), max_size=30))
def test_no_counter_ever_falls(steps: list[tuple[float, float, float]]) -> None:
    model = HouseModel(Energies())
    at, last = START, plain(model.house_state(START))
    for seconds, load, power in steps:
        at = at.after(seconds)
        model.hear(snapshot(at, house_load_kw=load, grid_import_kw=load))
        model.hear(battery(at, power))
        state = plain(model.house_state(at))
        assert all(state[key] >= last[key] for key in state if key.endswith("_kwh"))
        last = state
