"""The source that a meter's settings name; only its own library is loaded."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from contracts.instant import Instant
from energy.load import HouseProfile
from energy.rebase import to_present
from energy.series import read_series
from meter.model import RecordedSource, SimulatedSource
from meter.settings import MeterSettings
from meter.source import Inverted, Source
from meter.sources.believable import Believable
from runtime.clock import Clock
from runtime.errors import UsageError

EXTRA = {"sunspec": "sunspec", "dsmr": "dsmr"}
"""What must be installed beside wattbus itself."""


def source_of(settings: MeterSettings, clock: Clock) -> Source:
    """The source, not yet connected.

    Raises:
        UsageError: what it needs is not given, or not installed.
        BusUrlError: the URL of a meter's broker can't be read.
        SeriesError: a recording that can't be read, or does not cover now.
    """
    try:
        source = Believable(_source(settings, clock))
    except ModuleNotFoundError as error:
        extra = EXTRA.get(settings.source, "all")
        raise UsageError(
            f"meter: --source {settings.source} needs {error.name}: pip install 'wattbus[{extra}]'"
        ) from error
    return Inverted(source) if settings.device_inverted else source


def _source(settings: MeterSettings, clock: Clock) -> Source:
    match settings.source:
        case "simulated":
            profile = HouseProfile(timezone=settings.timezone, max_w=settings.max_w)
            return SimulatedSource(profile, _seed(settings))
        case "csv":
            return _recorded(settings, clock.now())
        case "sunspec":
            return _sunspec(settings)
        case "dsmr":
            return _dsmr(settings, clock)
        case "shelly" | "tasmota":
            return _mqtt(settings, clock)


def _seed(settings: MeterSettings) -> str:
    return f"{settings.seed}/{settings.house}/{settings.meter}"


def _recorded(settings: MeterSettings, now: Instant) -> Source:
    if settings.csv is None:
        raise UsageError("meter: --source csv needs --csv FILE: the recorded file to play")
    series = read_series(settings.csv, settings.csv_column)
    if settings.csv_rebase:
        series = to_present(series, now)
    series.at(now)  # a recording of another time is found out now, not at the first beat
    return RecordedSource(series, settings.interval_s, _seed(settings))


def _sunspec(settings: MeterSettings) -> Source:
    from meter.sources.sunspec import PORT, SunspecSource

    host, port = _host_and_port(settings, default=PORT)
    return SunspecSource(host, port, settings.device_unit)


def _dsmr(settings: MeterSettings, clock: Clock) -> Source:
    from meter.sources.dsmr import DsmrSource

    if not (settings.device.startswith("/") or Path(settings.device).is_file()):
        _host_and_port(settings, default=None)
    return DsmrSource(settings.device, settings.device_version, settings.device_age_max_s, clock)


def _mqtt(settings: MeterSettings, clock: Clock) -> Source:
    from broker.mqtt_url import parse_url
    from meter.sources.mqtt import MqttSource
    from meter.sources.mqtt_says import Shelly, Tasmota

    parts = urlsplit(settings.device)
    topic = unquote(parts.path).strip("/")
    if parts.scheme not in ("mqtt", "mqtts") or not topic or {"+", "#"} & {*settings.device}:
        raise UsageError(
            f"meter: --source {settings.source} needs --device mqtt://host:port/TOPIC: "
            "the house's broker, and the meter's topic there"
        )
    dialect = Shelly(topic) if settings.source == "shelly" else Tasmota(topic)
    client = f"wattbus-{settings.house}-{settings.meter}"
    url = parts._replace(path="").geturl()
    parse_url(url)  # one that can't be is found out now, not at the first reading
    return MqttSource(url, client, dialect, settings.device_age_max_s, clock)


def _host_and_port(settings: MeterSettings, default: int | None) -> tuple[str, int]:
    """Of `host:port`, or of `host` where there is a usual port.

    Raises:
        UsageError: it is neither.
    """
    wanted = "host:port" if default is None else "host or host:port"
    try:
        parts = urlsplit(f"//{settings.device}")
        host, port, is_whole = parts.hostname, parts.port or default, not parts.path
    except ValueError:
        host = port = None
        is_whole = False
    if not host or port is None or not is_whole:
        raise UsageError(
            f"meter: --source {settings.source} needs --device {wanted}, not {_shown(settings.device)!r}"
        )
    return host, port


def _shown(device: str) -> str:
    """A device as an error may tell it: without a password that stands where none should."""
    return device.rpartition("@")[2][:80]
