"""The settings on which a run depends: a list of labels counts by its content."""

import hashlib
import os
import tracemalloc
from pathlib import Path

from tb.config.load_config import load_config
from tb.method.run_settings import label_settings
from tests.shards.helpers import fault_of
from tests.tb.test_named_paths import UNREADABLE


def test_a_list_of_labels_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.touch()
    os.truncate(path, 20_000_000)
    config = load_config(None, [f"labels.file={path}"])
    tracemalloc.start()
    try:
        found = label_settings(config)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert found["file"] == hashlib.sha256(bytes(20_000_000)).hexdigest()


def test_a_list_of_labels_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / ("x" * 300), tmp_path / "none", tmp_path]
    paths += [UNREADABLE] if UNREADABLE.is_file() else []
    for path in paths:
        message = fault_of(label_settings, load_config(None, [f"labels.file={path}"]))
        assert message.startswith(f"{path}: ")
