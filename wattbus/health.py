"""`wattbus health`: whether this container's service has its brokers; for a container's health check."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.clock import SystemClock
from runtime.flags import OneLineParser

STALE_S = 15.0


def main(argv: Sequence[str] | None = None) -> int:
    """0 if the service touched WATTBUS_HEALTH_FILE in the last 15 s, else 1."""
    OneLineParser(
        prog="wattbus health",
        description="Exits 0 if the service touched WATTBUS_HEALTH_FILE in the last 15 s.",
        epilog="example: WATTBUS_HEALTH_FILE=/tmp/health wattbus health",
    ).parse_args(argv)
    path = os.environ.get("WATTBUS_HEALTH_FILE")
    if not path:
        sys.stderr.write("wattbus: WATTBUS_HEALTH_FILE is not set: it names the file the service touches\n")
        return 2
    try:
        age_s = SystemClock().now().timestamp() - Path(path).stat().st_mtime
    except OSError:
        sys.stderr.write(f"wattbus: {path}: the service has not been connected yet\n")
        return 1
    if age_s > STALE_S:
        sys.stderr.write(f"wattbus: the service lost its broker {age_s:.0f} s ago\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
