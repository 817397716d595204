"""Files that only their owner may read."""

from pathlib import Path


def write_secret(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write one, and the folder it stands in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    path.chmod(mode)
    return path
