"""What the operator's commands share: their folder, the brokers that are told, one line for an error."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import ContractError
from runtime.clock import SystemClock
from runtime.errors import RuntimeFaultError, UsageError
from runtime.flags import OneLineParser
from runtime.needs import complain, missing

if TYPE_CHECKING:
    from wattbus.access.desk import Desk


def parser_of(command: str, description: str, example: str) -> OneLineParser:
    """A parser with what every command of the operator takes."""
    parser = OneLineParser(
        prog=f"wattbus {command}", description=description, epilog=f"example: wattbus {command} {example}"
    )
    parser.add_argument(
        "--access-dir",
        type=Path,
        default=Path("access"),
        metavar="DIR",
        help="authority and register [access]",
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help="tell the running brokers too: those of DIR/apply.toml; alone after `enroll`: tell them again",
    )
    return parser


def run(
    parser: OneLineParser,
    argv: Sequence[str] | None,
    work: Callable[[argparse.Namespace, "Desk"], Iterator[str]],
) -> int:
    """Do a command's work, and print what it tells; returns the exit code."""
    given = parser.parse_args(argv)
    if absent := missing(("cryptography",)):
        return complain(absent, "access")
    from wattbus.access.desk import open_desk  # which stands on it

    told: list[str] = []
    failure: RuntimeFaultError | ContractError | None = None
    try:
        with open_desk(given.access_dir, SystemClock().now(), tells=given.apply) as desk:
            # Printed when all is done: whoever stops reading must not stop a revocation.
            for line in work(given, desk):
                told.append(f"{line}\n")  # noqa: PERF401 - what was done before it failed is told
    except (RuntimeFaultError, ContractError) as error:
        failure = error
    sys.stdout.write("".join(told))
    if failure is None:
        return 0
    sys.stderr.write(f"{parser.prog}: {failure}\n")
    return failure.exit_code if isinstance(failure, RuntimeFaultError) else UsageError.exit_code


def account_named(name: str) -> str:
    """An account by its name, `service.recorder`; a house by its own name too."""
    return name if "." in name else f"house.{name}"
