"""`wattbus COMMAND ...`: finds the command and hands over."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NamedTuple

from runtime.output import guarded_output


class Command(NamedTuple):
    """A command and where it is; imported only when it is called, so that a house loads only its own."""

    module: str
    help: str


COMMANDS = {
    "run": Command("wattbus.run", "a whole neighbourhood in one process"),
    "meter": Command("meter.__main__", "a house's electricity meter"),
    "pvsim": Command("pvsim.__main__", "the PV simulator that answers each reading"),
    "der-controller": Command("der_controller.__main__", "a house's batteries and cars"),
    "optimizer": Command("optimizer.__main__", "plans each battery 48 h ahead"),
    "reporter": Command("optimizer.counterparts.reporter", "forecasts over HTTP, from recorded days"),
    "validator": Command(
        "optimizer.counterparts.validator", "a simulated battery over HTTP, with its account"
    ),
    "orchestrator": Command("orchestrator.__main__", "the 10 s control loop that sends commands"),
    "recorder": Command("recorder.__main__", "writes the daily CSV files"),
    "replay": Command("recorder.replay.__main__", "plays recorded CSV files onto a bus"),
    "explain": Command("wattbus.explain", "what was decided for a house at an instant, and why"),
    "plant": Command("plant.__main__", "a test power plant over HTTP, which drifts"),
    "plant-poller": Command("plant.poller", "asks a plant API, and puts what can be believed on the bus"),
    "home-assistant": Command("home_assistant.__main__", "shows the houses to Home Assistant, over MQTT"),
    "dashboard": Command("dashboard.__main__", "the live page of every house, at http://127.0.0.1:8080"),
    "backtest": Command("wattbus.backtest.__main__", "what recorded days would have cost"),
    "bridge": Command("broker.bridge", "carries readings from an MQTT broker into RabbitMQ"),
    "broker": Command("wattbus.broker", "the embedded MQTT broker alone"),
    "quarantine": Command("wattbus.quarantine", "what services could not use, and another try for it"),
    "topics": Command("wattbus.topics", "what travels where on the bus"),
    "asyncapi": Command("wattbus.asyncapi.command", "the same as an AsyncAPI document and JSON Schemas"),
    "enroll": Command("wattbus.access.enroll", "an identity for a house or a service, in one bundle"),
    "install": Command("wattbus.access.install", "puts a bundle to work on this computer"),
    "rotate": Command("wattbus.access.rotate", "a new identity beside the old one, then instead of it"),
    "revoke": Command("wattbus.access.revoke", "takes an identity back: a stolen device is worth nothing"),
    "check": Command("wattbus.check", "whether brokers, clock, disk and settings are in order here"),
    "top": Command("wattbus.top", "the fleet in this terminal"),
    "health": Command("wattbus.health", "whether the service in this container is connected"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with guarded_output():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(_usage())
        return 0
    if name == "--version":
        sys.stdout.write(f"wattbus {version('wattbus')}\n")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(COMMANDS)}"
        sys.stderr.write(f"wattbus: {name[:40]!r} is no command; {hint}\n")
        return 2
    code: int = importlib.import_module(COMMANDS[name].module).main(arguments[1:])
    return code


def _usage() -> str:
    lines = [f"  {name:16}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: wattbus COMMAND [options]      wattbus COMMAND --help shows its options",
            "",
            *lines,
            "",
            "example: wattbus run --for 24h --speed max --out out",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
