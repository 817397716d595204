"""Libraries that an install may lack: said in one line before anything starts."""

import sys
from importlib.util import find_spec

SERVER = ("httpx", "litestar", "mkdocs_swagger_ui_tag", "prometheus_client", "uvicorn")
SOLVER = ("cvxpy", "highspy", "numpy")


def missing(names: tuple[str, ...]) -> list[str]:
    """Those that are not installed."""
    return [name for name in names if find_spec(name) is None]


def complain(names: list[str], extra: str) -> int:
    """Say what to install; returns the exit code."""
    sys.stderr.write(f"wattbus: {', '.join(names)} not installed: pip install 'wattbus[{extra}]'\n")
    return 2
