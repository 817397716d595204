"""The recorder's disk is full, its files may not grow, or its synchronising fails."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, vhost
from tests.fault.chain import Chain, Setup, chain, judge

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]
FAILS_S = 6.0
DISK = 16 << 20
NOT_WRITTEN = "not written"
FAILING = "20..30"
"""Of the calls to fsync and fdatasync."""


@pytest.fixture
def broker(rabbitmq: Broker) -> Iterator[Broker]:
    with vhost(rabbitmq) as own:
        yield own


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; needs root, as CI has."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(mount)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({mounted.stderr.strip()}): run it as root")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


async def _recovered(one: Chain, fault: str) -> None:
    one.fault_ends()
    await one.recovers()
    await one.flows()
    assert NOT_WRITTEN in one.parts["recorder"][0].said, "the fault was none"
    judge(await one.finish(fault))


async def test_a_disk_that_is_full(broker: Broker, tmp_path: Path, small_disk: Path) -> None:
    async with chain(broker, tmp_path, Setup(data=small_disk / "DATA")) as one:
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:
            space = os.statvfs(small_disk)
            file.write(bytes((space.f_bavail - 2) * space.f_bsize))
        await asyncio.sleep(FAILS_S)
        filler.unlink()
        await _recovered(one, f"the recorder's disk full for {FAILS_S:.0f} s")


async def test_a_file_that_may_not_grow(broker: Broker, tmp_path: Path) -> None:
    """The kernel takes a part of what is written, in the middle of a line, and then nothing."""
    async with chain(broker, tmp_path) as one:
        for recorder, data in zip(one.parts["recorder"], (one.data, one.naive_data), strict=True):
            largest = max(path.stat().st_size for path in data.rglob("*") if path.is_file())
            recorder.limit_files(largest + 1000)
        await asyncio.sleep(FAILS_S)
        for recorder in one.parts["recorder"]:
            recorder.limit_files(None)
        await _recovered(one, f"the recorder's files may not grow for {FAILS_S:.0f} s")


@pytest.fixture
def failing_sync(tmp_path: Path) -> list[str]:
    """What to put before a command, so that some of its fsyncs fail."""
    tried = subprocess.run(
        ["strace", "-e", "inject=fsync:error=EIO", "true"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("strace can't inject faults here: install it, and allow ptrace")
    calls = "fsync,fdatasync"
    said = str(tmp_path / "strace")
    options = ["-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO:when={FAILING}"]
    return ["strace", "-D", "-f", "-qq", "-o", said, *options]


async def test_a_disk_that_fails_to_synchronise(
    broker: Broker, tmp_path: Path, failing_sync: list[str]
) -> None:
    """The control never synchronises, so it has nothing to lose by this: there is none."""
    async with chain(broker, tmp_path, Setup(wrap={"recorder": failing_sync}, control=None)) as one:
        await one.until(lambda: NOT_WRITTEN in one.parts["recorder"][0].said, 60, "no fsync failed")
        await _recovered(one, f"the recorder's fsync fails, calls {FAILING} of each thread")
