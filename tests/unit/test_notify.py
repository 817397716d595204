"""What systemd is told of a process."""

import asyncio
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.notify import watched


async def test_ready_then_beats_then_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "90000")
        async with watched(settled_s=0.0):
            await asyncio.sleep(0.1)
        systemd.settimeout(0)
        told = []
        while True:
            try:
                told.append(systemd.recv(100))
            except BlockingIOError:
                break
    assert told.count(b"READY=1") == 1
    assert told[-1] == b"STOPPING=1"
    assert 3 <= told.count(b"WATCHDOG=1") <= 5


async def test_a_loop_that_stands_still_beats_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "90000")
        async with watched():
            assert systemd.recv(100) == b"WATCHDOG=1"
            time.sleep(0.2)  # noqa: ASYNC251 - that is it
            systemd.settimeout(0)
            with pytest.raises(BlockingIOError):
                systemd.recv(100)


async def test_what_ends_at_once_was_never_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with suppress(ConnectionError):
            async with watched(settled_s=60.0):
                raise ConnectionError
        assert systemd.recv(100) == b"STOPPING=1"
        await asyncio.sleep(0)
        systemd.settimeout(0)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


async def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    async with watched():
        pass


async def test_a_systemd_that_has_gone_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    async with watched():
        pass
