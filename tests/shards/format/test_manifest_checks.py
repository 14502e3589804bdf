"""A manifest from a stranger is refused where one of its rows could do harm."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.files.store import open_store
from shards.format.dataset_json import DATASET_NAME, read_dataset_json
from shards.format.manifest import Manifest, read_manifest, write_manifest
from shards.format.video import Video


@pytest.fixture
def root(manifest: Manifest, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(manifest.root, tmp_path / "copy"))


def _videos(root: Path) -> list[Video]:
    manifest = read_manifest(root)
    return [manifest.video(row) for row in range(len(manifest))]


def _rewrite(root: Path, videos: list[Video]) -> None:
    (root / ".ingest").mkdir(exist_ok=True)
    write_manifest(open_store(root), videos, read_dataset_json(root))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", "../../etc/passwd"),
        ("key", "a.b"),
        ("key", ""),
        ("key", "good\n"),
        ("shard", "../shard-000000.tar"),
        ("shard", "/etc/passwd"),
        ("shard", "shard-000000.tar\n"),
        ("label", -1),
        ("label", 2),
        ("num_frames", 0),
        ("fps_den", 0),
        ("fps_num", 0),
        ("height", 0),
        ("width", 1 << 40),
        ("offset", -1),
        ("size", 0),
        ("size", 1 << 50),
        ("sha256", "0" * 63),
        ("codec", "../h264"),
        ("codec", "mpeg4"),  # which has no packet index
        ("height", 1 << 16),  # more than a packet index has
        ("pixel_format", "None"),
        ("color_matrix", "bt2020"),
        ("color_range", "wide"),
        ("splits", ("anything",)),
        ("source_bytes", -2),
    ],
)
def test_a_value_that_no_row_may_have_is_refused(root: Path, column: str, value: object) -> None:
    videos = _videos(root)
    videos[3] = replace(videos[3], **{column: value})  # type: ignore[arg-type]
    _rewrite(root, videos)
    with pytest.raises(InputError, match="run `tb shard` again") as caught:
        read_manifest(root)
    message = str(caught.value)
    assert "\n" not in message
    assert column == "splits" or f"row 3: {column} must not be " in message


def test_a_row_that_lacks_a_value_is_refused(root: Path) -> None:
    videos = _videos(root)
    videos[0] = replace(videos[0], group=None)  # type: ignore[arg-type]
    _rewrite(root, videos)
    with pytest.raises(InputError, match="row 0: group must not be none"):
        read_manifest(root)


def test_two_rows_of_one_key_are_refused(root: Path) -> None:
    videos = _videos(root)
    _rewrite(root, [*videos, videos[0]])
    with pytest.raises(InputError, match="two rows have the same key"):
        read_manifest(root)


def test_the_longest_names_are_accepted(root: Path) -> None:
    videos = _videos(root)
    videos[0] = replace(videos[0], key="x" * 80, source="../a b\n/ü" * 50)
    _rewrite(root, videos)
    assert read_manifest(root).video(0) == videos[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"name": "shard-000000.tar"', '"name": "../../shard-000000.tar"'),
        ('"digest": "', '"digest": "../../'),
        ('"num_skipped": 0', '"num_skipped": "0"'),
        ('"num_bytes": ', '"bytes": '),
        ('"shards": [', '"shards": 3, "strange": ['),
        ('"classes": [', '"classes": [3, '),
        ('"format_version": 2', '"format_version": 1'),
        ('"format_version": 2', '"format_version": "2"'),
        ('"fingerprint"', '"footprint"'),
    ],
)
def test_a_dataset_json_that_cannot_be_used_is_refused(root: Path, old: str, new: str) -> None:
    path = root / DATASET_NAME
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"{DATASET_NAME}: .*run `tb shard` again") as caught:
        read_manifest(root)
    assert "\n" not in str(caught.value)
