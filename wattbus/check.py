"""`wattbus check`: whether settings, brokers, clock and disk are in order; a line each, with what to do."""

import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from broker.backoff import redact
from broker.bus import PlanesBus
from broker.connect import open_spectator
from broker.errors import BusError, BusRefusedError, BusUnavailableError
from contracts import topics
from contracts.errors import ContractError
from contracts.ids import check_id
from contracts.messages import DerTelemetry, StateRequest
from contracts.topics import SITE
from der_controller.gate import CLOCK_SKEW_S
from der_controller.settings import DerControllerSettings
from energy.errors import EnergyError
from meter.settings import MeterSettings
from optimizer.settings import OptimizerSettings
from orchestrator.settings import OrchestratorSettings
from pvsim.settings import PvsimSettings
from recorder.settings import RecorderSettings
from runtime.clock import Clock, SystemClock
from runtime.errors import RuntimeFaultError
from runtime.flags import OneLineParser
from runtime.logs import configure
from runtime.process import Context, run_process
from runtime.settings import CommonSettings, HouseSettings, houses_in, load, read_site
from wattbus.access.identity import CertificateError, Holder, holder_of
from wattbus.access.roles import NAME, check_client, owner_of

FREE_MIN_MB = 500
"""Twice what a meter's outbox may take."""
FIRST_YEAR = 2024
"""A clock that shows less was never set."""
ANSWER_S = 5.0
CERTIFICATE_DAYS = 30.0
"""So long before its end a certificate is asked for anew."""
LISTEN_S = 3.0
"""Telemetry comes every second."""
SETTINGS: Mapping[str, type[CommonSettings]] = {
    "meter": MeterSettings,
    "pvsim": PvsimSettings,
    "der_controller": DerControllerSettings,
    "optimizer": OptimizerSettings,
    "orchestrator": OrchestratorSettings,
    "recorder": RecorderSettings,
}


class Finding(NamedTuple):
    """One line."""

    what: str
    problem: str = ""
    """What is wrong and what to do; empty: nothing."""
    told: str = ""

    def __str__(self) -> str:
        return f"{'problem' if self.problem else 'ok':9}{self.what}: {self.problem or self.told}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings; 0 if nothing is wrong, else 1."""
    parser = OneLineParser(
        prog="wattbus check",
        description="Whether settings, brokers, clock and disk are in order here: a line each, "
        "with what to do.",
        epilog="example: wattbus check --config mysite.toml",
    )
    parser.add_argument("--config", metavar="SITE.toml", help="a site file [WATTBUS_CONFIG]")
    parser.add_argument(
        "--house",
        metavar="HOUSE",
        help="on whose topics credentials are tried "
        f"[the house's or plant's whose certificate it is; else {SITE}]",
    )
    given = parser.parse_args(argv)
    clock = SystemClock()
    configure((), clock, "ERROR", None)
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()

    async def ask(_context: Context) -> None:
        async for finding in check_brokers(common, given.house, clock):
            note(finding)

    try:
        check_id(given.house or SITE, "house")
        config = [] if given.config is None else ["--config", given.config]
        for finding in check_settings(config):
            note(finding)
        common = load("check", CommonSettings, config).base
        data_dir = load("recorder", RecorderSettings, config).base.data_dir
    except (RuntimeFaultError, ContractError, EnergyError) as error:
        note(Finding("settings", str(error)))
        return 1
    for finding in check_disk({"state": common.state_dir, "log": common.log_dir, "data": data_dir}):
        note(finding)
    note(check_year(clock))
    for finding in check_certificates(common, clock):
        note(finding)
    return run_process(ask, clock) or int(any(finding.problem for finding in findings))


def check_settings(config: Sequence[str]) -> Iterator[Finding]:
    """Every service's settings, and every house's that a site file names.

    Raises:
        RuntimeFaultError: a wrong one; ContractError, EnergyError: likewise.
    """
    houses = houses_in(read_site(Path(config[1]))) if config else []
    for service, kind in SETTINGS.items():
        if issubclass(kind, HouseSettings):
            for house in houses or ["house-a"]:
                load(service, kind, [*config, "--house", house])
        else:
            load(service, kind, list(config))
    known = f", {len(houses)} houses" if houses else ""
    yield Finding("settings", told=f"those of {len(SETTINGS)} services can be used{known}")


def check_disk(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Whether each folder can be written, and has room; what does not exist yet is made by who needs it."""
    for name, folder in folders.items():
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        what = f"{name} folder {folder}"
        try:
            with tempfile.TemporaryFile(dir=there):
                free_mb = shutil.disk_usage(there).free >> 20
        except OSError as error:
            yield Finding(
                what, f"{there} can't be written ({error.strerror}): set --{name}-dir, or its owner"
            )
            continue
        if free_mb < FREE_MIN_MB:
            yield Finding(what, f"{free_mb} MB are free: make room for {FREE_MIN_MB} MB at least")
        else:
            yield Finding(what, told=f"can be written, {free_mb} MB are free")


def check_year(clock: Clock) -> Finding:
    """Whether the machine's clock was ever set."""
    now = clock.now()
    if now.year < FIRST_YEAR:
        return Finding("clock", f"it shows {now}: set it, best by NTP (timedatectl set-ntp true)")
    return Finding("clock", told=str(now))


def check_certificates(settings: CommonSettings, clock: Clock) -> Iterator[Finding]:
    """Whether the certificates that the brokers' URLs name hold, and for how long."""
    for url, name in _planes(settings).items():
        what = f"{name} certificate"
        try:
            holder = _holder(url)
        except OSError as error:
            yield Finding(what, f"{error.filename} can't be read ({error.strerror}): may this user?")
        except CertificateError as error:
            yield Finding(what, str(error))
        else:
            if holder is None:
                continue
            days = holder.days_left(clock.now())
            ask = "ask the operator for `wattbus rotate`, then `wattbus install` the new bundle"
            soon = days < CERTIFICATE_DAYS
            left = f"{days:.0f} days left"
            yield Finding(what, f"{left}: {ask}" if soon else "", left)


def _holder(url: str) -> Holder | None:
    """Whose certificate a broker's URL names; None: it names none.

    Raises:
        OSError: it can't be read.
        CertificateError: it does not hold.
    """
    options = dict(parse_qsl(urlsplit(url).query))
    if "cert" not in options or "ca" not in options:
        return None
    keys = {options["cert"], options.get("key", options["cert"])}
    pem = b"".join(Path(path).read_bytes() for path in sorted(keys))
    return holder_of(Path(options["ca"]).read_bytes(), pem)


class _Caller(NamedTuple):
    """As whom a broker is tried."""

    client: str
    house: str


def _caller(url: str) -> _Caller:
    """An account has one client id for this; elsewhere nobody is pushed out who checks at the same time."""
    try:
        holder = _holder(url)
    except (OSError, CertificateError):
        holder = None  # which is a finding of its own
    if holder is None or not NAME.match(holder.account):
        return _Caller(f"check-{secrets.token_hex(4)}", SITE)
    role, _, owner = owner_of(holder.account).partition(".")
    return _Caller(check_client(holder.account), owner if role in ("house", "plant") else SITE)


async def check_brokers(settings: CommonSettings, house: str | None, clock: Clock) -> AsyncIterator[Finding]:
    """Whether each broker is there and lets us publish and hear; and what its telemetry says of our clock."""
    urls = _planes(settings)
    if not urls:
        needed = "`wattbus run` needs none, a service WATTBUS_READINGS_URL or WATTBUS_LIVE_URL"
        yield Finding("brokers", told=f"none is set: {needed}")
    for url, name in urls.items():
        what = f"{name} broker"
        caller = _caller(url)
        whose = house or caller.house
        try:
            what = f"{what} {redact(url)}"
            async with open_spectator(url, clock, client=caller.client, wait_s=0.0) as bus:
                took_s = await _round_trip(bus, whose, clock)
                yield Finding(what, told=f"a message went there and back in {took_s * 1000:.0f} ms")
                if "live" in name or len(urls) == 1:
                    yield await _check_skew(bus, whose, clock)
        except BusUnavailableError as error:
            yield Finding(what, f"{error}: is it running, and does a firewall let this machine reach it?")
        except BusError as error:
            yield Finding(what, str(error))
        except TimeoutError:
            yield Finding(
                what,
                f"what was published as {whose} did not come back in {ANSWER_S:g} s: "
                "may this user hear it? --house says whose topics are tried",
            )


def _planes(settings: CommonSettings) -> dict[str, str]:
    """Each broker's URL, and what it is for."""
    urls: dict[str, str] = {}
    for plane, url in (("readings", settings.readings_url), ("live", settings.live_url)):
        if url:
            urls[url] = f"{urls[url]} and {plane}" if url in urls else plane
    return urls


async def _round_trip(bus: PlanesBus, house: str, clock: Clock) -> float:
    """Publish to ourselves; returns how long it took [s].

    Raises:
        BusError: it can't be published, or not be heard.
        TimeoutError: it did not come back.
    """
    topic = topics.STATE_GET.of(house=house, client="check")
    async with bus.subscribe(topic) as deliveries:
        began_s = clock.monotonic()
        # Nobody keeps a state of that name: nobody answers.
        none = f"{topics.ROOT}/{house}/bus/check/{secrets.token_hex(8)}"
        async with clock.timeout(ANSWER_S):
            await bus.publish(topic.at(), StateRequest(house=house, client="check", pattern=none))
            async for delivery in deliveries:
                if delivery.message.pattern == none:
                    break
        return clock.monotonic() - began_s


async def _check_skew(bus: PlanesBus, house: str, clock: Clock) -> Finding:
    """Compare our clock with the DERs', by the telemetry that is on its way right now."""
    topic = topics.DER_TELEMETRY if house == SITE else topics.DER_TELEMETRY.of(house=house)
    ahead_s: list[float] = []
    try:
        async with bus.subscribe(topic) as deliveries, clock.timeout(LISTEN_S):
            async for delivery in deliveries:
                telemetry: DerTelemetry = delivery.message
                ahead_s.append(clock.now().seconds_since(telemetry.timestamp))
    except TimeoutError:
        pass  # it has listened long enough
    except BusRefusedError:
        return Finding("clock beside the DERs'", told="not compared: this account may hear no telemetry")
    if not ahead_s:
        return Finding("clock beside the DERs'", told="none was heard to compare with")
    # What is on its way for longer says nothing: the fastest counts.
    skew_s = min(ahead_s)
    if abs(skew_s) > CLOCK_SKEW_S:
        which = "ahead of" if skew_s > 0 else "behind"
        problem = f"{abs(skew_s):.1f} s {which} theirs: commands would be refused; set both by NTP"
        return Finding("clock beside the DERs'", problem)
    return Finding("clock beside the DERs'", told=f"{skew_s:+.2f} s, of {len(ahead_s)} messages")


if __name__ == "__main__":
    sys.exit(main())
