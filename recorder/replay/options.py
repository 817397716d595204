"""What `wattbus replay` can be told."""

from collections.abc import Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from contracts.errors import ContractError
from contracts.ids import check_id
from energy.errors import EnergyError
from energy.zones import zone_of
from recorder.replay.columns import UNITS, Column, parse_map
from recorder.replay.times import FIRST_MS, PAST_MS, read_time, utc_ms
from runtime.errors import UsageError
from runtime.flags import OneLineParser, port, speed


class Options(NamedTuple):
    """What a replay was asked for."""

    paths: list[str]
    speed: float | None
    """None: as fast as the bus takes it."""
    since_ms: int
    until_ms: int
    loop: bool
    houses: list[str]
    meters: list[str]
    columns: dict[str, Column]
    zone: ZoneInfo | None
    rebase: bool
    run: str | None
    window_port: int
    window_ws_port: int
    settings: list[str]
    """The flags of settings that all services share."""

    @property
    def essence(self) -> str:
        """What decides which rows are played, and as what."""
        return repr(
            (self.since_ms, self.until_ms, self.houses, self.meters, sorted(self.columns.items()), self.zone)
        )


def parse_options(argv: Sequence[str] | None) -> Options:
    """Read the flags.

    Raises:
        UsageError: a speed, time, name, column or timezone that is none.
    """
    given = _parser().parse_args(argv)
    shared = {
        "readings_url": given.readings_url,
        "live_url": given.live_url,
        "wait_s": given.wait_s,
        "seed": given.seed,
        "log_level": given.log_level,
    }
    try:
        zone = None if given.timezone is None else zone_of(given.timezone)
        for house in given.house:
            check_id(house, "--house")
        for meter in given.meter:
            check_id(meter, "--meter")
        return Options(
            paths=given.paths,
            speed=speed(given.speed),
            since_ms=_moment_ms("--from", given.since, zone, FIRST_MS),
            until_ms=_moment_ms("--to", given.until, zone, PAST_MS),
            loop=given.loop,
            houses=given.house,
            meters=given.meter,
            columns=parse_map(given.map),
            zone=zone,
            rebase=given.rebase is not None,
            run=None if given.run is None else check_id(given.run, "--run"),
            window_port=given.window_port,
            window_ws_port=given.window_ws_port,
            settings=[
                text
                for name, value in shared.items()
                if value is not None
                for text in (f"--{name.replace('_', '-')}", value)
            ],
        )
    except (ContractError, EnergyError) as error:
        raise UsageError(f"replay: {error}") from error
    except ValueError as error:
        raise UsageError(f"replay: --map {error}") from error


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="wattbus replay",
        description="Plays recorded readings, or any CSV of powers, onto a bus, marked as historical: "
        "none passes for a live reading. Without a broker's URL, MQTT clients look in at 127.0.0.1.",
        epilog="example: wattbus replay DATA --house house-a --from 2024-07-01 --to 2024-07-02 --speed 60",
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders or globs")
    parser.add_argument(
        "--speed", default="1", metavar="60|max", help="times real time; max: as fast as the bus takes it [1]"
    )
    parser.add_argument(
        "--from", dest="since", metavar="WHEN", help="from 2024-07-01 or 2024-07-01T06:00Z on"
    )
    parser.add_argument("--to", dest="until", metavar="WHEN", help="up to then, not including it")
    parser.add_argument("--loop", action="store_true", help="again and again, until Ctrl-C")
    parser.add_argument(
        "--house",
        action="append",
        default=[],
        metavar="ID",
        help="this house alone, may be given again; names the house of a file that tells none",
    )
    parser.add_argument("--meter", action="append", default=[], metavar="ID", help="likewise the meter")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="NAME=COLUMN[:UNIT],...",
        help="where timestamp, meter_w, pv_w, house and meter stand under other names, e.g. "
        f"timestamp=Time,meter_w=Load:kW; units: {', '.join(UNITS)} (energy: of each interval)",
    )
    parser.add_argument("--timezone", metavar="NAME", help="of times that name none, e.g. Europe/Paris")
    parser.add_argument(
        "--rebase", choices=["now"], help="move the times to today: by whole 52 weeks, weeks, or days"
    )
    parser.add_argument("--run", metavar="ID", help="the replay's name [made of what is played]")
    parser.add_argument("--seed", metavar="N", help="another seed is another run [0]")
    parser.add_argument(
        "--readings-url", metavar="URL", help="broker of the readings (or WATTBUS_READINGS_URL)"
    )
    parser.add_argument("--live-url", metavar="URL", help="broker of the live plane (or WATTBUS_LIVE_URL)")
    parser.add_argument(
        "--wait-s", "--wait", metavar="S", help="how long to wait for a broker at start [300]"
    )
    parser.add_argument(
        "--window-port", type=port, default=1883, metavar="PORT", help="MQTT, without URLs [1883]"
    )
    parser.add_argument(
        "--window-ws-port", type=port, default=8083, metavar="PORT", help="MQTT over WebSocket [8083]"
    )
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR [INFO]")
    return parser


def _moment_ms(flag: str, text: str | None, zone: ZoneInfo | None, default_ms: int) -> int:
    """The instant of a date or time; in `zone` where it names none, or else in UTC."""
    if text is None:
        return default_ms
    try:
        moment = read_time(text)
        return utc_ms(moment if moment.tzinfo else moment.replace(tzinfo=zone or ZoneInfo("UTC")))
    except ValueError as error:
        raise UsageError(f"{flag} {error}") from error
