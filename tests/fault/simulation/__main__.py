"""`python -m tests.fault.simulation SEED [SEED]`: one seed with its plan and its trace, or all from one to another."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fault.simulation.fleet import ROOT, fleet
from tests.fault.simulation.naive import NAIVE
from tests.fault.simulation.plan import plan_of
from tests.fault.simulation.world import simulate_plan


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.simulation", description=__doc__)
    parser.add_argument("seed", type=int, help="the seed; with a second one, the first of many")
    parser.add_argument("last", type=int, nargs="?", help="the last of many: outcomes alone are printed")
    parser.add_argument(
        "--naive", choices=sorted(NAIVE), help="with a naive part in its place, as the control"
    )
    own = parser.parse_args()
    if own.last is None:
        return replay(own.seed, own.naive)
    failed = 0
    with fleet() as many:
        for outcome in many(range(own.seed, own.last + 1), own.naive):
            if outcome.breaches:
                failed += 1
                print(outcome, *outcome.details, sep="\n    ", flush=True)  # noqa: T201
    print(f"{own.last - own.seed + 1} seeds, {failed} failed")  # noqa: T201
    return int(failed > 0)


def replay(seed: int, naive: str | None) -> int:
    """Print a seed's plan, all that happened, and what came of it."""
    plan = plan_of(seed)
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        parts = {} if naive is None else NAIVE[naive]
        outcome, trace = simulate_plan(plan, Path(folder) / "seed", parts, traced=True)
    print(plan, *trace, outcome, *outcome.details, sep="\n")  # noqa: T201
    return int(bool(outcome.breaches))


if __name__ == "__main__":
    sys.exit(main())
