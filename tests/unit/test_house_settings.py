"""An account's wattbus.toml, and the URLs that may stand in it."""

import tomllib
from pathlib import Path

import pytest

from tests.unit.test_install import BUNDLE, PLACE, bundle_of
from wattbus.access import enroll
from wattbus.access.bundle import encode_bundle, read_bundle
from wattbus.access.house_settings import settings_of

URLS = {
    "readings_url": "amqps://rabbit.example?ca=root/etc/wattbus/house-d/ca.crt"
    "&cert=root/etc/wattbus/house-d/client.pem&account=house.house-d",
    "live_url": "mqtts://{client}:of-no-use@hive.example?ca=root/etc/wattbus/house-d/ca.crt"
    "&cert=root/etc/wattbus/house-d/client.pem",
}
WRITTEN = {
    "no final newline": 'live_url = "x"',
    "indented": '  live_url = "x"\n\treadings_url="y"\n',
    "quoted keys": "\"live_url\" = \"x\"\n'readings_url' = 'y'\n",
    "a table alone": "[meter]\ninterval_s = 5",
    "lines end as on Windows": 'live_url = "x"\r\n[meter]\r\ninterval_s = 5\r\n',
    "one house's table": '# all\n\n[ house . house-d . "meter" ]\ninterval_s = 5\n# end',
    "brackets in a value": '[optimizer]\nx = [\n["meter"],\n["a"]\n]\n',
    "empty": "",
}


@pytest.mark.parametrize("case", list(WRITTEN))
def test_settings_that_people_wrote_are_brought_up_to_date(case: str) -> None:
    before = tomllib.loads(WRITTEN[case])
    text = settings_of(BUNDLE, PLACE, WRITTEN[case]).text
    after = tomllib.loads(text)
    assert after == {
        **before,
        **URLS,
        "state_dir": "root/var/lib/wattbus/house-d",
        "log_dir": "root/var/log/wattbus/house-d",
        "meter": {"house": "house-d", "meter": "main"} | before.get("meter", {}),
        "der_controller": {"house": "house-d", "devices": {"battery": {"type": "battery_storage"}}},
    }
    assert text.count("#") == WRITTEN[case].count("#")
    assert settings_of(BUNDLE, PLACE, text).text == text


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://h",
        "mqtts://",
        "mqtts://h:99999",
        "mqtts://h:0",
        "mqtts://h:abc",
        "mqtts://h#frag",
        "mqtts://h/../..",
        "mqtts://h\n",
        "mqtts://h o",
        "mqtts://é.example",
        "mqtts://a|b",
        "mqtts://[::1",
        "mqtts://h?cert=/etc/x",
        "mqtts://h?version=9",
        "mqtts://h?retained=",
        "mqtts://ann:secret@h",
        "amqps://h/vhost",
        "amqps://h?version=5",
        "wss://h/../x",
        "h" * 2000,
    ],
)
def test_a_url_that_can_be_none_is_refused_at_enrolment(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert enroll.main(["house-d", "--meter", "main", "--live-url", url]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "secret" not in said
    assert not Path("house-d.bundle").exists()


@pytest.mark.parametrize(
    "url",
    ["mqtts://h", "mqtts://h:8883/", "wss://h.example/mqtt?version=3&retained=ask", "amqps://[::1]:5671", "mqtts://192.168.1.5"],
)  # fmt: skip
def test_a_url_that_can_be_one_is_taken(url: str, tmp_path: Path) -> None:
    path = tmp_path / "house-d.bundle"
    path.write_bytes(encode_bundle(bundle_of(live_url=url)))
    assert read_bundle(path).live_url == url
