"""Where settings come from, and what is said of bad ones."""

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from contracts.instant import Instant
from runtime.errors import UsageError
from runtime.settings import HouseSettings, Layered, load


class Own(HouseSettings, frozen=True, kw_only=True):
    interval_s: Annotated[float, Meta(gt=0, description="time between readings")] = 10.0
    csv: Path | None = None
    pv: bool = True
    tags: tuple[str, ...] = ()
    horizon_h: Annotated[
        float, Meta(gt=0, description="how far ahead", extra={"env": "MPC_HORIZON_HOURS"})
    ] = 48.0


def loaded(argv: list[str], env: dict[str, str] | None = None) -> Own:
    settings: Layered[Own] = load("meter", Own, argv, environ=env or {})
    return settings.base


SITE = """
timezone = "Europe/Paris"
seed = 3
[meter]
interval_s = 5
csv = "data/x.csv"
[house.house-a.meter]
interval_s = 2.5
[recorder]
data_dir = "elsewhere"
"""


@pytest.fixture
def site(tmp_path: Path) -> str:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return str(path)


def test_defaults_then_file_then_house_then_environment_then_flags(site: str) -> None:
    assert loaded(["--house", "x"]).interval_s == 10
    assert loaded(["--house", "x", "--config", site]).interval_s == 5
    assert loaded(["--house", "house-a", "--config", site]).interval_s == 2.5
    env = {
        "WATTBUS_HOUSE": "house-a",
        "WATTBUS_CONFIG": site,
        "WATTBUS_METER_INTERVAL_S": "3",
        "WATTBUS_SEED": "9",
    }
    assert loaded([], env).interval_s == 3
    assert loaded([], env).seed == 9
    assert loaded(["--interval-s", "4"], env).interval_s == 4
    assert loaded([], env).timezone == "Europe/Paris"


def test_a_setting_answers_to_another_systems_name(site: str) -> None:
    assert loaded(["--house", "x"], {"MPC_HORIZON_HOURS": "24"}).horizon_h == 24
    assert loaded(["--house", "x"], {"MPC_HORIZON_HOURS": ""}).horizon_h == 48
    assert loaded(["--house", "x", "--config", site], {"MPC_HORIZON_HOURS": "24"}).horizon_h == 24
    own_name = {"MPC_HORIZON_HOURS": "24", "WATTBUS_METER_HORIZON_H": "12"}
    assert loaded(["--house", "x"], own_name).horizon_h == 12
    assert loaded(["--house", "x", "--horizon-h", "6"], own_name).horizon_h == 6


def test_another_systems_name_stands_in_a_dotenv_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MPC_HORIZON_HOURS=36\n")
    settings: Layered[Own] = load("meter", Own, ["--house", "x"])
    assert settings.base.horizon_h == 36


def test_a_path_in_a_file_stands_beside_that_file(site: str) -> None:
    assert loaded(["--house", "x", "--config", site]).csv == Path(site).parent / "data/x.csv"
    assert loaded(["--house", "x", "--csv", "here.csv"]).csv == Path("here.csv")


def test_values_from_text() -> None:
    own = loaded(["--house", "x", "--no-pv", "--start", "2024-07-01T00:00Z", "--tags", "a, b"])
    assert (own.pv, own.start, own.tags) == (False, Instant.parse("2024-07-01T00:00:00Z"), ("a", "b"))


@pytest.mark.parametrize(
    ("argv", "env", "says"),
    [
        ([], {}, "--house is missing"),
        (["--house", "x", "--interval-s", "ten"], {}, "--interval-s: 'ten' won't do"),
        (["--house", "x", "--interval-s", "nan"], {}, "--interval-s"),
        (["--house", "x", "--interval-s", "0"], {}, "--interval-s: '0' won't do"),
        (["--house", "x"], {"MPC_HORIZON_HOURS": "0"}, "MPC_HORIZON_HOURS: '0' won't do"),
        (["--house", "x"], {"MPC_HORIZON_HOURS": "two days"}, "MPC_HORIZON_HOURS: 'two days' won't do"),
        (
            ["--house", "x"],
            {"MPC_HORIZON_HOUR": "24"},
            "MPC_HORIZON_HOUR: no such setting; did you mean MPC_HORIZON_HOURS",
        ),
        (["--house", "../x"], {}, "--house"),
        (
            ["--house", "x"],
            {"WATTBUS_METER_INTERVAL": "5"},
            "WATTBUS_METER_INTERVAL: .*WATTBUS_METER_INTERVAL_S",
        ),
        (
            ["--house", "x"],
            {"WATTBUS_LIVE_ULR": "mqtt://x"},
            "WATTBUS_LIVE_ULR: .*did you mean WATTBUS_LIVE_URL",
        ),
        (["--house", "x", "--config", "missing.toml"], {}, "missing.toml: can't be read"),
        (["--house", "x", "--start", "yesterday"], {}, "--start"),
        (["--house", "x", "--start", "2024-07-01T00:00"], {}, "timezone"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(argv: list[str], env: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        loaded(argv, env)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_another_services_variables_are_not_ours_to_judge() -> None:
    assert loaded(
        ["--house", "x"], {"WATTBUS_RECORDER_DATA_DIR": "x", "WATTBUS_REQUIRE_BROKERS": "hivemq"}
    ).pv


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("intervall = 1", "site.toml: intervall"),
        ("[meter]\nintervall_s = 1", "site.toml: meter.intervall_s: .*interval_s"),
        ("[house.house-a.meter]\nx = 1", "site.toml: house.house-a.meter.x"),
        ("[house.house-a.mter]\nx = 1", "did you mean meter"),
        ("[metre]\nx = 1", "did you mean meter"),
        ("[meter]\ninterval_s = 'fast'", "site.toml: meter.interval_s: 'fast' won't do"),
        ("[meter", "not TOML"),
        ("[house.'../x'.meter]\n", "not an id"),
        ("[house.a.meter]\n[house.A.meter]\n", "differ only in case"),
        ("[house]\na = 1", "house.a is no table"),
        ("house = 5", "house is no table"),
        ("[house.a]\nmeter = 5", "house.a.meter is no table"),
        ("[house.site.meter]\n", "taken by wattbus"),
        ("start = 2024-07-01", "write it as"),
        ("start = 5", "write it as"),
    ],
)
def test_a_bad_site_file_names_the_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)
    argv = ["--config", str(path), "--house", "house-a"]
    with pytest.raises(UsageError, match=says):
        load("meter", Own, argv, environ={})


def test_help_shows_every_flag_and_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(
            "meter",
            Own,
            ["--help"],
            environ={},
            description="A meter.",
            example="wattbus meter --house house-a",
        )
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for part in (
        "--interval-s",
        "time between readings [10.0]",
        "example: wattbus meter --house house-a",
        "--no-pv",
        "how far ahead [48.0] (or MPC_HORIZON_HOURS)",
    ):
        assert part in out


def test_an_unknown_flag_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load("meter", Own, ["--hosue", "x"], environ={})
    assert caught.value.code == 2
    assert "--hosue" in capsys.readouterr().err
