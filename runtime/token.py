"""The secret that whoever wants to change something must show: from a setting, or alone in a file."""

from pathlib import Path

from runtime.errors import UsageError


def read_token(token: str, file: Path | None) -> str:
    """The token; empty if there is none.

    Args:
        token: it; if not empty it counts.
        file: where it stands instead.

    Raises:
        UsageError: the file can't be read, or is empty.
    """
    if token or file is None:
        return token
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"token_file {file}: can't be read: {error}") from error
    if not found:
        raise UsageError(f"token_file {file}: it is empty: write the token into it")
    return found
