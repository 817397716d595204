"""`wattbus run` with a plant: the example, as it stands."""

import csv
import re
from pathlib import Path

from wattbus.run import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "plant.toml"
BALANCED = re.compile(
    r"INFO    orchestrator: Power balancer: target=\d+\.\dkW, current=\d+\.\dkW, delta=[+-]\d+\.\dkW\n"
)
ADJUSTED = re.compile(r"INFO    orchestrator: Adjusting miner-\d\d from preset \d+ to \d+ \([+-]\d+W\)\n")


def test_the_example_runs_records_and_balances(tmp_path: Path) -> None:
    flags = [str(EXAMPLE), "--for", "10m", "--speed", "max", "--out", str(tmp_path)]
    assert main(flags) == 0
    (file,) = (tmp_path / "DATA").glob("*/*/*.csv")
    assert file.relative_to(tmp_path / "DATA").parts[:2] == ("complexo-paranhos", "main")
    with file.open(encoding="utf-8") as rows:
        found = list(csv.DictReader(rows))
    assert len(found) == 60
    assert [int(row["seq"]) for row in found] == list(range(1, 61))
    said = (tmp_path / "log" / "orchestrator.log").read_text(encoding="utf-8")
    assert 8 <= len(BALANCED.findall(said)) <= 10
    assert len(ADJUSTED.findall(said)) >= 15
    assert "WARNING" not in said
    assert "Updated: Generation=" in (tmp_path / "log" / "plant.log").read_text(encoding="utf-8")
