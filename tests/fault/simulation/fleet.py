"""Many seeds, on all processors; the disks are in memory where there is such a folder, each sync is made all the same."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.fault.simulation.naive import NAIVE
from tests.fault.simulation.world import Outcome, simulate

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing secret, and each run has a folder of its own
ROOT = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK) else None
"""None: where temporary folders are."""


def one(seed: int, naive: str | None = None) -> Outcome:
    """One seed, with one naive part or none."""
    with tempfile.TemporaryDirectory(dir=ROOT, prefix="wattbus-seed-") as folder:
        return simulate(seed, Path(folder) / "seed", None if naive is None else NAIVE[naive])


Many = Callable[..., Iterator[Outcome]]


@contextmanager
def fleet() -> Iterator[Many]:
    """Something that runs many seeds, on all processors, and gives their outcomes in order."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:

        def many(seeds: Iterable[int], naive: str | None = None) -> Iterator[Outcome]:
            return pool.map(partial(one, naive=naive), seeds, chunksize=5)

        yield many
