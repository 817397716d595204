"""`python -m benchmarks [NAME ...]`: runs the named ones, or all."""

import importlib
import sys

NAMES = ("flow", "tick", "plan", "bus", "http", "plant", "dashboard", "replay", "day", "recorder", "backtest")


def main() -> int:
    """Run them one after the other."""
    for name in sys.argv[1:] or NAMES:
        if name not in NAMES:
            sys.stderr.write(f"benchmarks: {name!r} is none; there are {', '.join(NAMES)}\n")
            return 2
        print(f"\n== {name}")
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
