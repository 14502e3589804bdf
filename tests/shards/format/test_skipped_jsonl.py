"""skipped.jsonl: what is written is read, and a damaged file is refused with advice."""

from pathlib import Path

import pytest

from shards.errors import InputError
from shards.files.store import open_store
from shards.format.skipped_jsonl import SKIPPED_NAME, Skipped, read_skipped, write_skipped


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.scratch.mkdir()
    bad = Skipped(source="a/b.mp4", key="b", reason="the file is empty", may_pass=False)
    write_skipped(store, [bad], ["a/c"])
    found = read_skipped(store)
    assert found[0] == bad
    assert [entry.source for entry in found] == ["a/b.mp4", "a/c"]


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[1]", "3", '{"source": "a"}', '{"unknown": 1}', "\xff"),
        '{"source": "a", "key": "b", "reason": "c", "may_pass": "no"}',
        '{"source": [], "key": "b", "reason": "c", "may_pass": true}',
    ],
)
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / SKIPPED_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=f"{SKIPPED_NAME}: unreadable .*run `tb shard` again"):
        read_skipped(open_store(tmp_path))
