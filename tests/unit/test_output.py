"""What is printed where nobody reads, or where there is no room: no traceback, and an exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.test_run import CLEAN, REPOSITORY


def printing(stdout: int, *arguments: str) -> tuple[int, str]:
    """The exit code and what is said about it."""
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**CLEAN, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "wattbus", "asyncapi"),
        ("-u", "-m", "wattbus", "topics"),
        ("-m", "wattbus", "meter", "--help"),
        ("-m", "wattbus", "run", "--for", "10m", "--speed", "max"),
    ],
    ids=" ".join,
)
def test_output_that_nobody_takes(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert printing(writing, *arguments) == (141, "")
    os.close(writing)
    with Path("/dev/full").open("wb") as full:
        code, said = printing(full.fileno(), *arguments)
    assert (code, said) == (1, "wattbus: the output can't be written: No space left on device\n")
