from pathlib import Path

import pytest

from shards.files.json_lines import append_line, read_lines


def test_lines_come_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    assert read_lines(path) == []
    lines = [{"key": "ä\u2028b", "number": number} for number in range(3)]
    for line in lines:
        append_line(path, line)
    assert read_lines(path) == lines


@pytest.mark.parametrize("num_bytes", range(1, 12))
def test_a_line_that_was_cut_short_costs_no_other(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "list.jsonl"
    append_line(path, {"key": "a"})
    with path.open("ab") as file:
        file.write(b'{"key": "lost"}\n'[:num_bytes])
    append_line(path, {"key": "b"})
    assert read_lines(path) == [{"key": "a"}, {"key": "b"}]
