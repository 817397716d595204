"""The small durable memory."""

from pathlib import Path

import msgspec
import pytest

from contracts.instant import Instant
from runtime.errors import StoreError
from runtime.store import Store


class Memory(msgspec.Struct, frozen=True):
    boot: int = 0
    at: Instant = Instant.at_ms(0)


def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "memory.json"
    Store(path, Memory, Memory()).save(Memory(3, Instant.at_ms(1234)))
    assert Store(path, Memory, Memory()).load() == Memory(3, Instant.at_ms(1234))
    assert [file.name for file in path.parent.iterdir()] == ["memory.json"]


def test_without_a_path_it_lasts_as_long_as_the_process() -> None:
    store = Store(None, Memory, Memory())
    store.save(Memory(1))
    assert store.load().boot == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"boot":"x"}', b"\xff\x00"])
def test_a_broken_file_is_named_and_never_overwritten_unasked(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "memory.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"memory\.json"):
        Store(path, Memory, Memory())
    assert path.read_bytes() == content


def test_what_can_not_be_written_leaves_the_former_value(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    store = Store(blocked / "memory.json", Memory, Memory(7))
    with pytest.raises(StoreError, match="can't be written"):
        store.save(Memory(8))
    assert store.load().boot == 7


def test_a_crash_between_writing_and_renaming_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    Store(path, Memory, Memory()).save(Memory(1))
    path.with_name("memory.json.new").write_bytes(b'{"boo')  # what a crash leaves behind
    store = Store(path, Memory, Memory())
    assert store.load().boot == 1
    store.save(Memory(2))
    assert Store(path, Memory, Memory()).load().boot == 2
