"""Backup and restore as docs/deploy.md has them: tar while the recorder writes, all lost, put back, go on."""

import csv
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Broker, vhost
from tests.fault.chain import Part

Row = tuple[str, ...]


def rows_in(data: Path) -> list[Row]:
    """Whole rows of all files."""
    rows = []
    for path in sorted(data.glob("*/main/main_*.csv")):
        whole, _, _ = path.read_text().rpartition("\n")
        rows += [tuple(row) for row in csv.reader(whole.splitlines()[1:])]
    return rows


def tar(*arguments: str | Path) -> None:
    done = subprocess.run(["tar", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: a file has grown meanwhile


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.timeout(180)
async def test_what_was_recorded_comes_back(rabbitmq: Broker, tmp_path: Path) -> None:
    with vhost(rabbitmq) as mine:
        assert mine.amqp_url is not None
        url = ["--live-url", mine.amqp_url]
        recorder = Part("recorder", [sys.executable, "-m", "recorder", *url], tmp_path / "recorder")
        meter = Part(
            "meter",
            [sys.executable, "-m", "meter", "--house", "house-a", "--no-pv", "--interval-s", "0.1", *url],
            tmp_path / "meter",
        )
        data, archive = tmp_path / "recorder" / "DATA", tmp_path / "data.tar.gz"
        try:
            recorder.start()
            meter.start()
            wait_for(lambda: len(rows_in(data)) > 30, recorder.said + meter.said)
            before = rows_in(data)
            tar("--create", "--gzip", "--file", archive, "--directory", data.parent, "DATA")
            wait_for(lambda: len(rows_in(data)) > len(before) + 20, recorder.said)
            await meter.stop(30)
            await recorder.stop(30)
            shutil.rmtree(data)
            tar("--extract", "--file", archive, "--directory", data.parent)
            recorder.start()
            meter.start()
            wait_for(lambda: any(row[4] == "2" for row in rows_in(data)), recorder.said)
            await meter.stop(30)
            await recorder.stop(30)
        finally:
            await meter.kill()
            await recorder.kill()
        after = rows_in(data)
        assert after[: len(before)] == before
        assert len(set(after)) == len(after)
        assert not list(data.rglob("*.damaged-*"))
