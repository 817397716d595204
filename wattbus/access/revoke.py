"""`wattbus revoke`: takes an account back; a stolen device is worth nothing from then on."""

import sys
from collections.abc import Sequence

from wattbus.access.operator import account_named, parser_of, run


def main(argv: Sequence[str] | None = None) -> int:
    """Revoke one account; returns the exit code."""
    parser = parser_of(
        "revoke",
        "Takes an account back: its certificates go on the revocation list, its users from the brokers. "
        "With --apply its live connections end; docs/access.md says how soon.",
        "house-d --apply",
    )
    parser.add_argument("account", metavar="HOUSE", help="a house, or any account: service.recorder")
    return run(parser, argv, lambda given, desk: desk.revoke(account_named(given.account)))


if __name__ == "__main__":
    sys.exit(main())
