"""`wattbus backtest`: recorded days run again, and what they would have cost."""

import signal
import sys
from collections.abc import Sequence

from energy.errors import EnergyError
from runtime.errors import RuntimeFaultError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the backtest; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no process is left behind
    try:
        from wattbus.backtest.options import parse_options

        options = parse_options(argv)
        # After that: what solves takes seconds to load.
        from wattbus.backtest.command import run

        return run(options)
    except (RuntimeFaultError, EnergyError) as error:
        sys.stderr.write(f"wattbus backtest: {error}\n")
        return error.exit_code if isinstance(error, RuntimeFaultError) else UsageError.exit_code
    except ModuleNotFoundError as error:
        sys.stderr.write(f"wattbus backtest: {error.name} is not installed: pip install 'wattbus[all]'\n")
        return UsageError.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
