"""Files that can't be read: each is named in one line, and the good ones are played nevertheless."""

import os
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from recorder.replay.options import parse_options
from recorder.replay.survey import Survey, survey
from tests.system.test_run import CLEAN, REPOSITORY
from tests.unit.replay_corpus import GOOD, Bad, corpus

CORPUS = corpus()


def look(*arguments: str | Path) -> tuple[Survey, list[str]]:
    faults: list[str] = []
    return survey(parse_options([str(each) for each in arguments]), 0, faults.append, lambda: False), faults


def test_the_corpus_is_large_enough() -> None:
    assert len({bad.name for bad in CORPUS}) == len(CORPUS) >= 100


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.name)
def test_a_bad_file_is_named_in_one_line_and_the_good_one_is_played(tmp_path: Path, bad: Bad) -> None:
    path = tmp_path / "bad.csv"
    bad.write(path)
    good = tmp_path / "good.csv"
    good.write_text(GOOD)

    found, faults = look(path, good)

    assert len(faults) == 1
    assert len(faults[0].splitlines()) == 1
    assert len(faults[0]) < 500
    assert faults[0].startswith(f"{path}:{'' if bad.line is None else f'{bad.line}:'}"), faults[0]
    played = {one.source.path for one in found.found}
    assert played == ({path, good} if bad.plays else {good})


def test_a_gigabyte_in_one_line_takes_no_memory(tmp_path: Path) -> None:
    for bad in CORPUS:
        if bad.name.startswith("gigabyte"):
            bad.write(tmp_path / f"{bad.name}.csv")
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with pytest.raises(Exception, match="nothing to replay"):
                look(tmp_path / f"{bad.name}.csv")
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """As somebody else than root, whom nothing is forbidden."""
    bad = tmp_path / "secret.csv"
    bad.write_text(GOOD)
    bad.chmod(0)
    script = (
        "import sys; from pathlib import Path; from recorder.replay.text import open_table\n"
        "from contracts.errors import BadArchiveError\n"
        "import os; os.setuid(65534) if os.getuid() == 0 else None\n"
        "try:\n  open_table(Path(sys.argv[1])).__enter__()\n"
        "except BadArchiveError as error: print(error)"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == tmp_path.owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run([sys.executable, "-c", script, str(bad)], cwd=REPOSITORY, env={**CLEAN, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == f"{bad}: can't be read: Permission denied\n"


HARMLESS = {
    "as it is": GOOD.encode(),
    "bom": b"\xef\xbb\xbf" + GOOD.encode(),
    "crlf": GOOD.replace("\n", "\r\n").encode(),
    "cr": GOOD.replace("\n", "\r").encode(),
    "mixed ends": GOOD.replace("\n", "\r\n", 1).encode(),
    "semicolons": GOOD.replace(",", ";").encode(),
    "tabs": GOOD.replace(",", "\t").encode(),
    "quotes": re.sub(r"([^,\n]+)", r'"\1"', GOOD).encode(),
    "quotes and semicolons": re.sub(r"([^,\n]+)", r'"\1"', GOOD).replace(",", ";").encode(),
    "utf-16": GOOD.encode("utf-16"),
    "utf-16, the other way round": "\ufeff".encode("utf-16-be") + GOOD.encode("utf-16-be"),
    "utf-16, tabs, crlf, as a spreadsheet saves": GOOD.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
    "blank lines": GOOD.replace("\n", "\n\n").encode(),
    "no last end": GOOD.rstrip().encode(),
    "spaces": GOOD.replace(",", " , ").encode(),
    "more columns": "\n".join(f"{line},{i}" for i, line in enumerate(GOOD.splitlines())).encode(),
    "other order": "\n".join(",".join(reversed(line.split(","))) for line in GOOD.splitlines()).encode(),
    "a note with a newline": "\n".join(f'{line},"a\nb"' for line in GOOD.splitlines()).replace('"a\nb"', "note", 1).encode(),
    "another offset": GOOD.replace("T00:", "T02:").replace("Z", "+02:00").encode(),
    "a space for the T": GOOD.replace("T", " ").encode(),
    "many digits": GOOD.replace("Z", ".0000001Z").encode(),
}  # fmt: skip


@pytest.mark.parametrize("content", HARMLESS.values(), ids=HARMLESS)
def test_what_is_harmless_simply_works(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    found, faults = look(tmp_path / "a.csv")
    assert faults == []
    rows = list(found.reader.stream(found.found[0], 0, Counter(), faults.append, lambda: False).open())
    assert [(row.at_ms, row.meter_w) for row in rows] == [(1719792000000, 500.0), (1719792010000, 510.0)]


def test_folders_globs_and_links_give_each_file_once(tmp_path: Path) -> None:
    for name in ("a/one.csv", "a/b/two.CSV", "a/.hidden/three.csv", "a/replay/run/four.csv", "a/five.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(GOOD)
    (tmp_path / "a" / "again.csv").symlink_to("one.csv")
    found, faults = look(tmp_path, tmp_path / "a", tmp_path / "a" / "*.csv", str(tmp_path / "**" / "*.csv"))
    assert faults == []
    names = sorted(os.path.relpath(one.source.path.resolve(), tmp_path) for one in found.found)
    assert names == ["a/b/two.CSV", "a/one.csv", "a/replay/run/four.csv"]
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    found, faults = look(tmp_path)
    assert faults == []
    assert len(found.found) == 2
    found, _ = look(tmp_path / "a" / "replay")
    assert len(found.found) == 1
