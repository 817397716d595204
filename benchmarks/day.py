"""A simulated day of three houses: `wattbus run --for 24h --speed max`, twice with one seed."""

import filecmp
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import report

LIMIT_S = 120.0


def main() -> None:
    """Print the seconds of each run, and whether both wrote the same bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        outs = []
        for name in ("one", "two"):
            folder = Path(scratch) / name
            folder.mkdir()
            command = [
                sys.executable,
                "-m",
                "wattbus",
                "run",
                "--for",
                "24h",
                "--speed",
                "max",
                "--seed",
                "1",
            ]
            began = time.perf_counter()
            subprocess.run(
                [*command, "--no-window", "--out", "out"], cwd=folder, check=True, stdout=subprocess.DEVNULL
            )
            report(
                "a day of three houses, virtual clock",
                time.perf_counter() - began,
                "s",
                f"to reach: {LIMIT_S:.0f}",
            )
            outs.append(folder / "out")
        files = sorted(path.relative_to(outs[0]) for path in outs[0].rglob("*") if path.is_file())
        _, different, missing = filecmp.cmpfiles(*outs, [str(path) for path in files], shallow=False)
        print(f"{len(files)} files, {len(different) + len(missing)} differ")
