"""Settings: defaults < TOML < environment (`.env`) < flags, each value checked where it stands.

One TOML file serves every service: keys at its top are shared, a `[meter]` table is that service's, a
`[house.house-a.meter]` table is that service's in that house.
"""

import argparse
import difflib
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from contracts.errors import ContractError
from contracts.ids import ID_PATTERN, ID_WORDS, Id, check_id, refuse_case_twins, refuse_reserved
from contracts.instant import Instant
from energy.zones import zone_of
from runtime.errors import UsageError
from runtime.flags import OneLineParser
from runtime.hints import alias_of, describe, extra_of

SERVICES = ("meter", "pvsim", "der_controller", "optimizer", "orchestrator", "recorder")
TABLES = (
    *SERVICES,
    "bridge",
    "reporter",
    "validator",
    "plant",
    "plant_poller",
    "dashboard",
    "home_assistant",
)
"""Whose tables a site file may have: the services on the bus, and those over HTTP."""
PREFIX = "WATTBUS_"
FOREIGN_PREFIX = "MPC_"
"""Of another system's names for settings: none but them begins so, and one that is not known is a slip."""
NOT_SETTINGS = frozenset(
    {
        "WATTBUS_CONFIG",
        "WATTBUS_REQUIRE_BROKERS",
        "WATTBUS_REQUIRE_BROWSER",
        "WATTBUS_HEALTH_FILE",
        "WATTBUS_IMAGE",
    }
)

REQUESTS_PER_S = 50.0

Url = Annotated[str, Meta(max_length=2000)]


class CommonSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every service can be told."""

    readings_url: Annotated[
        Url, Meta(description="broker of the readings: amqp://, amqps://, mqtt://, mqtts://")
    ] = ""
    live_url: Annotated[
        Url, Meta(description="broker of the live plane: mqtt://, mqtts://, ws://, wss://, amqp://")
    ] = ""
    wait_s: Annotated[
        float, Meta(ge=0, description="how long to wait for a broker at start; 0: fail at once")
    ] = 300.0
    state_dir: Annotated[
        Path, Meta(description="what must survive a restart: boot counters, command marks")
    ] = Path("state")
    log_dir: Annotated[Path, Meta(description="rotating log files, one a service")] = Path("log")
    log_level: Annotated[
        typing.Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="DEBUG, INFO, WARNING or ERROR")
    ] = "INFO"
    seed: Annotated[int, Meta(ge=0, description="seeds everything that is random")] = 0
    speed: Annotated[float, Meta(gt=0, le=10_000, description="how many times faster than real time")] = 1.0
    start: Annotated[
        Instant | None, Meta(description="when a faster clock starts; the same for all processes")
    ] = None
    timezone: Annotated[str, Meta(description="the place's time zone, as in the IANA list")] = "UTC"
    latitude: Annotated[float, Meta(ge=-90, le=90, description="deg, north positive")] = 9.93
    longitude: Annotated[float, Meta(ge=-180, le=180, description="deg, east positive")] = -84.08
    requests_per_s: Annotated[
        float, Meta(ge=0.1, le=1e6, description="so often anyone may ask over HTTP; ten seconds' at once")
    ] = REQUESTS_PER_S

    def __post_init__(self) -> None:
        zone_of(self.timezone)


class MonitoredSettings(CommonSettings, frozen=True, kw_only=True):
    """What a service without an HTTP API can be told besides."""

    metrics_host: Annotated[str, Meta(min_length=1, description="address of its /metrics and /health")] = (
        "127.0.0.1"
    )
    metrics_port: Annotated[int, Meta(ge=0, le=65535, description="their port; 0: none")] = 0


class HouseSettings(MonitoredSettings, frozen=True, kw_only=True):
    """What a service that belongs to one house can be told."""

    house: Annotated[Id, Meta(description="which house")]

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_reserved(self.house)


S = TypeVar("S", bound=CommonSettings)


class _Value(NamedTuple):
    raw: object
    source: str
    folder: Path


class Layered(Generic[S]):
    """A service's settings, and what one house has different."""

    def __init__(self, base: S, houses: Mapping[str, S]) -> None:
        self.base = base
        self.houses = houses

    def of(self, house: str) -> S:
        """The settings that hold for `house`."""
        return self.houses.get(house, self.base)


def load(
    service: str,
    kind: type[S],
    argv: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    description: str = "",
    example: str = "",
) -> Layered[S]:
    """The settings of one service, from everywhere they can stand.

    Args:
        service: its name, as in `SERVICES`: the TOML table and the part of the variables' names.
        argv: the flags; `--help` prints them and exits 0.
        environ: by default the process's environment, over what `.env` in this folder says.

    Raises:
        UsageError: an unknown key, a wrong type or value, a required one that is missing.
    """
    kinds = _field_types(kind)
    flags = _parse_flags(service, kind, kinds, argv, description, example)
    env = environment() if environ is None else environ
    config = flags.pop("config", None) or env.get(f"{PREFIX}CONFIG")
    document, path = _read_toml(Path(config)) if config else ({}, Path())
    from_env = _from_environment(service, kinds, env)
    from_flags = {key: _Value(text, f"--{key.replace('_', '-')}", Path()) for key, text in flags.items()}

    def build(house: str | None) -> S:
        layers = [*_from_toml(service, kinds, document, path, house), from_env, from_flags]
        merged = {key: value for layer in layers for key, value in layer.items()}
        return _convert(service, kind, kinds, merged)

    chosen = from_flags.get("house") or from_env.get("house")
    base = build(str(chosen.raw) if chosen and "house" in kinds else None)
    houses = {} if "house" in kinds else {house: build(house) for house in houses_in(document)}
    return Layered(base, houses)


def environment() -> dict[str, str]:
    """The process's environment, over what `.env` in this folder says."""
    from_file = {key: value for key, value in dotenv_values(".env").items() if value is not None}
    return {**from_file, **os.environ}


def houses_in(document: Mapping[str, Any]) -> list[str]:
    """The houses a site file names, in its order.

    Raises:
        UsageError: one is no id, or two differ only in case.
    """
    houses = list(document.get("house", {}))
    try:
        for house in houses:
            check_id(house, "house")
            refuse_reserved(house)
        refuse_case_twins(houses, "house")
    except ContractError as error:
        raise UsageError(str(error)) from error
    return houses


def read_site(path: Path) -> dict[str, Any]:
    """A site file as it stands, its tables' names checked.

    Raises:
        UsageError: it is missing, is no TOML, or has a table no service reads.
    """
    return _read_toml(path)[0]


def _read_toml(path: Path) -> tuple[dict[str, Any], Path]:
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    _check_tables(document, path)
    houses_in(document)
    return document, path


def _check_tables(document: Mapping[str, Any], path: Path) -> None:
    """Every table has a name somebody reads, and what should be a table is one."""
    for key, value in document.items():
        if isinstance(value, dict) or key in (*TABLES, "house"):
            _known(key, (*TABLES, "house"), f"{path}: [{key}]")
            _check_table(value, key, path)
    for house, services in document.get("house", {}).items():
        _check_table(services, f"house.{house}", path)
        for name, table in services.items():
            _known(name, TABLES, f"{path}: [house.{house}.{name}]")
            _check_table(table, f"house.{house}.{name}", path)


def _check_table(value: object, name: str, path: Path) -> None:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {name} is no table: write [{name}] and its settings below")


def _known(name: str, names: Iterable[str], where: str) -> None:
    names = list(names)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(names))}"
        raise UsageError(f"{where}: no such setting; {hint}")


def _field_types(kind: type[S]) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _from_toml(
    service: str, kinds: Mapping[str, Any], document: Mapping[str, Any], path: Path, house: str | None
) -> list[dict[str, _Value]]:
    common = _field_types(CommonSettings)
    shared = {key: value for key, value in document.items() if not isinstance(value, dict)}
    for key in shared:
        _known(key, common, f"{path}: {key}")
    layers = [_table(shared, path, "")]
    tables = [(document.get(service, {}), f"{service}.")]
    if house is not None:
        tables.append(
            (document.get("house", {}).get(house, {}).get(service, {}), f"house.{house}.{service}.")
        )
    for table, prefix in tables:
        for key in table:
            _known(key, kinds, f"{path}: {prefix}{key}")
        layers.append(_table(table, path, prefix))
    return layers


def _table(table: Mapping[str, Any], path: Path, prefix: str) -> dict[str, _Value]:
    return {key: _Value(value, f"{path}: {prefix}{key}", path.parent) for key, value in table.items()}


def _from_environment(service: str, kinds: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, _Value]:
    common = {*_field_types(CommonSettings), "house"}
    names = {
        f"{PREFIX}{key.upper()}" if key in common else f"{PREFIX}{service.upper()}_{key.upper()}": key
        for key in kinds
    }
    shared = {f"{PREFIX}{key.upper()}" for key in common}
    found = {
        key: _Value(text, alias, Path())
        for key, hint in kinds.items()
        if (alias := alias_of(hint)) and (text := env.get(alias, ""))
    }
    foreign = {alias for hint in kinds.values() if (alias := alias_of(hint) or "").startswith(FOREIGN_PREFIX)}
    for variable in (name for name in env if foreign and name.startswith(FOREIGN_PREFIX)):
        _known(variable, foreign, variable)
    for variable, text in env.items():
        if (
            not variable.startswith(PREFIX)
            or variable in NOT_SETTINGS
            or _owner(variable) not in ("", service)
        ):
            continue
        _known(variable, {*names, *shared}, variable)
        if variable in names and text != "":
            found[names[variable]] = _Value(text, variable, Path())
    return found


def _owner(variable: str) -> str:
    """The service whose variable it is, by the longest name that fits; empty: shared."""
    fits = [name for name in TABLES if variable.startswith(f"{PREFIX}{name.upper()}_")]
    return max(fits, key=len, default="")


def _parse_flags(
    service: str,
    kind: type[S],
    kinds: Mapping[str, Any],
    argv: Sequence[str] | None,
    description: str,
    example: str,
) -> dict[str, Any]:
    parser = OneLineParser(
        prog=f"wattbus {service.replace('_', '-')}",
        description=description,
        epilog=f"example: {example}" if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="SITE.toml", help="a TOML file with these settings")
    defaults = {field.name: field.default for field in msgspec.structs.fields(kind)}
    for key, hint in kinds.items():
        bare, text = describe(hint)
        if typing.get_origin(bare) is dict or extra_of(hint, "secret"):
            continue
        default = defaults[key]
        if default is not msgspec.NODEFAULT and default not in (None, ""):
            text = f"{text} [{default}]".strip()
        if alias := alias_of(hint):
            text = f"{text} (or {alias})"
        flag = f"--{key.replace('_', '-')}"
        # The unit may be left out: --wait 0 is --wait-s 0.
        names = [flag, flag.removesuffix("-s")] if flag.endswith("-s") else [flag]
        if bare is bool:
            parser.add_argument(flag, help=text, action=argparse.BooleanOptionalAction)
        else:
            words = typing.get_args(bare) if typing.get_origin(bare) is typing.Literal else ("X",)
            metavar = "|".join(map(str, words))
            parser.add_argument(*names, help=text.replace("%", "%%"), metavar=metavar)
    return vars(parser.parse_args(argv))


def _convert(service: str, kind: type[S], kinds: Mapping[str, Any], values: Mapping[str, _Value]) -> S:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, field in fields.items():
        if field.required and key not in values:
            _, text = describe(kinds[key])
            flag = f"--{key.replace('_', '-')}"
            example = "house-a" if key == "house" else "0.1"
            raise UsageError(
                f"{service.replace('_', '-')}: {flag} is missing ({text}), e.g. {flag} {example}"
            )
    converted = {key: _convert_one(kinds[key], value) for key, value in values.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise UsageError(f"{service.replace('_', '-')}: {error}") from error


def _convert_one(hint: Any, value: _Value) -> Any:  # noqa: ANN401 - a setting of any type
    def hook(kind: type, item: Any) -> Any:  # noqa: ANN401 - msgspec's signature
        if kind is Path:
            return value.folder / str(item)
        if kind is Instant and isinstance(item, datetime):
            return Instant.of(item)
        if kind is Instant and isinstance(item, str):
            return Instant.parse(item)
        if kind is Instant:
            raise ValueError("no time: write it as 2024-07-01T00:00:00Z")
        raise NotImplementedError(kind.__name__)

    try:
        return msgspec.convert(_raw(hint, value), hint, strict=False, dec_hook=hook)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        shown = "what it holds" if extra_of(hint, "secret") else repr(value.raw)
        raise UsageError(f"{value.source}: {shown[:80]} won't do: {_why(hint, str(error))}") from error


def _why(hint: Any, said: str) -> str:  # noqa: ANN401 - a type annotation
    """What a value must be, in words."""
    bare, _ = describe(hint)
    if typing.get_origin(bare) is typing.Literal:
        return f"it must be {', '.join(map(str, typing.get_args(bare)))}"
    if repr(ID_PATTERN) in said:
        return f"it must be {ID_WORDS}"
    return said.replace(" - at `$`", "")


def _raw(hint: Any, value: _Value) -> object:  # noqa: ANN401 - a type annotation
    """A value as it stands; but several in one text are a list, and a file begins where it was named."""
    raw = value.raw
    if not isinstance(raw, str):
        return raw
    if typing.get_origin(describe(hint)[0]) in (list, tuple):
        return [part.strip() for part in raw.split(",") if part.strip()]
    # A file by its ending, else a name: `Meta(extra={"file": ".toml"})`.
    ending = extra_of(hint, "file")
    return str(value.folder / raw) if ending and raw.endswith(ending) else raw
