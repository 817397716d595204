"""An account's `wattbus.toml`: what the bundle says stands in it, and what people have added stays."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from runtime.errors import UsageError
from wattbus.access.bundle import Bundle

CA, CLIENT = "ca.crt", "client.pem"


def check_url(url: str, what: str) -> None:
    """Whether a broker's URL may stand in a bundle.

    Raises:
        UsageError: it is not encrypted, or names a user: each account is its own.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("amqps", "mqtts", "wss"):
        raise UsageError(
            f"{what}: give amqps://HOST, mqtts://HOST or wss://HOST: an unencrypted link shows all"
        )
    if "@" in parts.netloc or not parts.hostname:
        raise UsageError(f"{what}: give scheme://host[:port], without a user: each account is its own")


def with_identity(url: str, folder: Path, login: str, password: str) -> str:
    """A broker's URL with who calls: RabbitMQ goes by the certificate alone, an MQTT broker may not."""
    parts = urlsplit(url)
    options = {**dict(parse_qsl(parts.query)), "ca": str(folder / CA), "cert": str(folder / CLIENT)}
    netloc = parts.netloc if parts.scheme == "amqps" else f"{login}:{password}@{parts.netloc}"
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode(options, safe="/")))


def settings_text(bundle: Bundle, folder: Path, data: Path, log: Path, present: str | None) -> str:
    """What `wattbus.toml` says.

    Args:
        folder: where it and the certificates stand.
        data: the state's folder.
        log: the logs'.
        present: what it says now; its two URLs are replaced then, and tables that are missing added.

    Raises:
        UsageError: what is there is no TOML.
    """
    urls = {
        key: with_identity(url, folder, bundle.login, bundle.password)
        for key, url in (("readings_url", bundle.readings_url), ("live_url", bundle.live_url))
        if url
    }
    tables = _tables(bundle)
    if present is not None:
        return _renewed(present, urls, tables, folder / "wattbus.toml")
    lines = [
        f"# {bundle.account}: written by `wattbus install`. What you change stays: a later install replaces",
        "# the two URLs, and adds what is missing. They hold a password: this file is its owner's alone.",
        *(f"{key} = {json.dumps(url)}" for key, url in urls.items()),
        f"state_dir = {json.dumps(str(data))}",
        f"log_dir = {json.dumps(str(log))}",
    ]
    return "\n".join([*lines, "", *tables.values()])


def _tables(bundle: Bundle) -> dict[str, str]:
    """Each table that the bundle's devices need, by its name."""
    wanted: dict[str, list[str]] = {}
    if bundle.meters:
        wanted["meter"] = [f'house = "{bundle.id}"', f'meter = "{bundle.meters[0]}"']
    if bundle.ders:
        wanted["der_controller"] = [f'house = "{bundle.id}"']
    for der_id, device in bundle.ders.items():
        wanted[f"der_controller.devices.{der_id}"] = [f'type = "{device}"']
    return {name: "\n".join([f"[{name}]", *lines, ""]) for name, lines in wanted.items()}


def _renewed(present: str, urls: dict[str, str], tables: dict[str, str], path: Path) -> str:
    try:
        document = tomllib.loads(present)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{path}: not TOML: {error}: mend it, or remove it to have it written anew"
        ) from error
    first = re.search(r"^\[", present, re.MULTILINE)
    head, rest = (present[: first.start()], present[first.start() :]) if first else (present, "")
    for key, url in urls.items():
        line = f"{key} = {json.dumps(url)}\n"
        # Doubled: a backslash means something in what is put in.
        head, found = re.subn(rf"^{key}\s*=.*\n", line.replace("\\", r"\\"), head, flags=re.MULTILINE)
        if not found:
            head = line + head
    missing = [text for name, text in tables.items() if not _has(document, name)]
    return "\n".join([head + rest, *missing])


def _has(document: dict[str, Any], name: str) -> bool:
    table: Any = document
    for part in name.split("."):
        if not isinstance(table, dict) or part not in table:
            return False
        table = table[part]
    return True
