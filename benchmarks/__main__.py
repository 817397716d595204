"""`python -m benchmarks [NAME ...]`: runs the named ones, or all but `year`, which has flags of its own."""

import importlib
import sys

NAMES = ("flow", "tick", "plan", "bus", "http", "plant", "day")


def main() -> int:
    """Run them one after the other."""
    if sys.argv[1:2] == ["year"]:
        importlib.import_module("benchmarks.year").main(sys.argv[2:])
        return 0
    for name in sys.argv[1:] or NAMES:
        if name not in NAMES:
            sys.stderr.write(f"benchmarks: {name!r} is none; there are {', '.join(NAMES)}, year\n")
            return 2
        print(f"\n== {name}")
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
