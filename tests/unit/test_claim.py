"""What must not run twice on one machine."""

from pathlib import Path

import pytest

from runtime.claim import claim
from runtime.errors import UsageError


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "state" / "orchestrator-main.lock"
    with claim(path, "orchestrator main"):
        with pytest.raises(UsageError) as caught, claim(path, "orchestrator main"):
            pass
        assert str(caught.value) == f"orchestrator main runs already: another process holds {path}"
    with claim(path, "orchestrator main"):
        pass


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(UsageError, match="can't be written"), claim(tmp_path / "state" / "x.lock", "it"):
        pass
