"""An account's `wattbus.toml`: what the bundle says stands in it, and what people have added stays."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from runtime.errors import UsageError
from wattbus.access.bundle import Bundle
from wattbus.access.place import CA, CLIENT, Place
from wattbus.access.toml_draft import Name, TomlDraft, TomlDraftError

_PORT = re.compile(r"\A/dev/[A-Za-z0-9_.:/+-]{1,200}\Z")


class Settings(NamedTuple):
    """What `wattbus.toml` is to say."""

    text: str
    shelved: list[str]
    """Tables that are comments now: of devices that the bundle does not name."""
    port: str
    """Of a serial meter, such as `/dev/ttyUSB0`; empty: there is none."""


def settings_of(bundle: Bundle, place: Place, present: str | None) -> Settings:
    """What `wattbus.toml` is to say.

    Args:
        present: what it says now: its two URLs are replaced, what is missing is added, and tables of
            devices that the bundle does not name become comments.

    Raises:
        UsageError: what is there is no TOML, or can't be changed line by line.
    """
    head = (
        f"# {bundle.account}: written by `wattbus install`. What you change stays: a later install replaces\n"
        "# the two URLs, and adds what is missing. They hold a password: this file is its user's alone.\n"
    )
    try:
        draft = TomlDraft(head if present is None else present)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{place.toml}: not TOML: {error}: mend it, or remove it to have it written anew"
        ) from error
    try:
        shelved = _shelve(draft, bundle)
        _fill(draft, bundle, place)
        text = draft.text()
    except TomlDraftError as error:
        raise UsageError(
            f"{place.toml}: can't be changed here: {error}: write it so, or remove it to have it made anew"
        ) from error
    return Settings(text, shelved, _serial_port(draft, bundle, place))


def with_identity(url: str, folder: Path, bundle: Bundle) -> str:
    """A broker's URL with who calls: RabbitMQ goes by the certificate alone, an MQTT broker may not."""
    parts = urlsplit(url)
    options = {**dict(parse_qsl(parts.query)), "ca": str(folder / CA), "cert": str(folder / CLIENT)}
    netloc = parts.netloc
    if parts.scheme == "amqps":
        options["account"] = bundle.account
    else:
        netloc = f"{bundle.login}:{bundle.password}@{netloc}"
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode(options, safe="/")))


def _fill(draft: TomlDraft, bundle: Bundle, place: Place) -> None:
    for key, url in (("readings_url", bundle.readings_url), ("live_url", bundle.live_url)):
        if url:
            draft.put((), key, with_identity(url, place.settings, bundle))
        else:
            draft.take(key)
    for name, keys in _wanted(bundle, place).items():
        there = draft.table(*name)
        for key, value in keys.items():
            if key not in there:
                draft.put(name, key, value)
    if bundle.meters and draft.table("meter")["meter"] not in bundle.meters:
        draft.put(("meter",), "meter", bundle.meters[0])


def _wanted(bundle: Bundle, place: Place) -> dict[Name, dict[str, str | bool]]:
    """What must be said in each table; a person may have said it otherwise."""
    wanted: dict[Name, dict[str, str | bool]] = {
        (): {"state_dir": str(place.state), "log_dir": str(place.log)}
    }
    if bundle.account == "service.recorder":
        wanted["recorder",] = {"data_dir": str(place.state / "DATA")}
    if bundle.account == "service.home-assistant":
        wanted["home_assistant",] = {"enabled": True}  # whoever installs it wants it
    if bundle.meters:
        wanted["meter",] = {"house": bundle.id, "meter": bundle.meters[0]}
    if bundle.ders:
        wanted["der_controller",] = {"house": bundle.id}
    for der_id, device in bundle.ders.items():
        wanted["der_controller", "devices", der_id] = {"type": device}
    return wanted


def _shelve(draft: TomlDraft, bundle: Bundle) -> list[str]:
    """Put aside what is of devices that the bundle does not name: the brokers know them no more."""
    if bundle.role != "house":
        return []
    gone: list[Name] = []
    for above in ((), ("house", bundle.id)):
        if not bundle.meters:
            gone.append((*above, "meter"))
        if not bundle.ders:
            gone.append((*above, "der_controller"))
        devices = (*above, "der_controller", "devices")
        gone += [(*devices, der_id) for der_id in draft.table(*devices) if der_id not in bundle.ders]
    shelved: list[str] = []
    for name in gone:
        if draft.table(*name):  # and has not gone with the table it was in
            draft.shelve(*name)
            shelved.append(".".join(name))
    return shelved


def _serial_port(draft: TomlDraft, bundle: Bundle, place: Place) -> str:
    meter = {**draft.table("meter"), **draft.table("house", bundle.id, "meter")}
    port = str(meter.get("device", ""))
    if meter.get("source") != "dsmr" or not port.startswith("/dev/"):
        return ""
    if not _PORT.match(port) or ".." in port:
        raise UsageError(
            f"{place.toml}: meter.device {port[:80]!r} is no serial port: write it as /dev/ttyUSB0"
        )
    return port
