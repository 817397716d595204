"""Flags: the standard library's argparse, whose errors are one line too."""

import argparse
import sys
from typing import NoReturn

from runtime.errors import UsageError

SPEED_MAX = 10_000.0
"""Faster than any machine keeps up with; who wants more says `max`."""


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line and exits 2; `--help` shows the rest."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; {self.prog} --help shows what there is\n")
        sys.exit(UsageError.exit_code)


def port(text: str) -> int:
    """A TCP port.

    Raises:
        argparse.ArgumentTypeError: no number from 1 to 65535.
    """
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 65535:  # noqa: PLR2004 - all ports
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no port: 1 to 65535")
    return int(text)


def speed(text: str) -> float | None:
    """Times real time; None for `max`: as fast as it goes.

    Raises:
        UsageError: neither `max` nor a number above 0, up to `SPEED_MAX`.
    """
    if text == "max":
        return None
    try:
        times = float(text)
    except ValueError:
        times = 0.0
    if not 0 < times <= SPEED_MAX:
        raise UsageError(f"--speed {text!r} won't do: a number above 0, up to {SPEED_MAX:g}, or max")
    return times
