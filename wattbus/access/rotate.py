"""`wattbus rotate`: a new identity beside the old, which ends once the new one is known to be in place."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wattbus.access.operator import account_named, parser_of, run

if TYPE_CHECKING:
    from wattbus.access.desk import Desk


def main(argv: Sequence[str] | None = None) -> int:
    """Rotate one account's identity, or finish it; returns the exit code."""
    parser = parser_of(
        "rotate",
        "Makes the next bundle of an account. The old identity counts on, until --finish, or its own end: "
        "so nobody is locked out whose new bundle has not arrived.",
        "house-d; later: wattbus rotate house-d --finish 7F3A-91C2",
    )
    parser.add_argument("account", metavar="HOUSE", help="a house, or any account: service.recorder")
    parser.add_argument(
        "--finish",
        metavar="CODE",
        help="end what is older than the certificate of this code, which install showed",
    )
    return run(parser, argv, _rotate)


def _rotate(given: argparse.Namespace, desk: "Desk") -> Iterator[str]:
    account = account_named(given.account)
    return desk.rotate(account) if given.finish is None else desk.finish(account, given.finish)


if __name__ == "__main__":
    sys.exit(main())
