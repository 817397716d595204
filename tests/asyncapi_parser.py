"""The official AsyncAPI parser, installed once into the user's cache from tests/asyncapi/package-lock.json."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.brokers import give_up, last_line

HERE = Path(__file__).parent / "asyncapi"
INSTALL_S = 110


def parser_folder() -> Path:
    """Where the parser is; without Node.js or its packages the test is skipped, or fails where it must not."""
    if absent := [program for program in ("node", "npm") if shutil.which(program) is None]:
        give_up("node", f"no {' and no '.join(absent)} here (Debian: apt-get install nodejs npm)")
    lock = (HERE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wattbus"
    folder = cache / f"asyncapi-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            half_done = Path(scratch) / "new"
            _install(half_done)
            if not folder.exists():  # or another test run was faster
                half_done.rename(folder)
    return folder


def _install(folder: Path) -> None:
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        give_up("node", f"npm did not install the AsyncAPI parser in {INSTALL_S} s")
    else:
        if done.returncode:
            give_up("node", f"npm can't install the AsyncAPI parser: {last_line(done.stderr + done.stdout)}")


def parse(document: dict[str, Any]) -> tuple[bool, list[str]]:
    """Whether the parser takes the document, and what it says of it, a line each."""
    done = subprocess.run(
        ["node", str(HERE / "check.mjs"), str(parser_folder())],
        input=json.dumps(document), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    return told["isDocument"], told["lines"]
