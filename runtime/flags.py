"""Flags: the standard library's argparse, whose errors are one line too."""

import argparse
import sys
from typing import NoReturn

from runtime.errors import UsageError


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
