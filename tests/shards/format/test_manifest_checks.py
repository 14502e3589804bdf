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
    about = replace(read_dataset_json(root), num_videos=len(videos))
    write_manifest(open_store(root), videos, about)


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
        ("width", 500_000),  # too many pixels with that height
        ("shard", "shard-000009.tar"),  # which is not there
        ("offset", -1),
        ("offset", 100_000),  # outside the shard
        ("size", 0),
        ("size", 100_000),
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
    _rewrite(root, [videos[0], *videos])
    with pytest.raises(InputError, match="two rows have the same key"):
        read_manifest(root)


def test_shards_that_are_out_of_order_are_refused(root: Path) -> None:
    videos = _videos(root)
    videos[0] = replace(videos[0], shard=videos[-1].shard)
    assert videos[0].shard != videos[1].shard
    _rewrite(root, videos)
    with pytest.raises(InputError, match=r"row 1: shard must not be 'shard-000000\.tar'"):
        read_manifest(root)


def test_rows_that_are_missing_are_noticed(root: Path) -> None:
    (root / ".ingest").mkdir()
    write_manifest(open_store(root), _videos(root)[1:], read_dataset_json(root))
    with pytest.raises(InputError, match=f"9 rows, but {DATASET_NAME} counts 10 videos"):
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
        ('"classes": [', '"classes": ["jump", '),
        ('"classes": [', '"classes": ["\\ud800", '),
        ('"num_frames": ', '"num_frames": -'),
        ('"num_bytes": ', '"num_bytes": -'),
        ('"sha256": "', '"sha256": "x'),
        ('"counts": [', '"counts": [3, '),
        ('"train": ', '"train": -'),
        ('"recipe": {', '"recipe": {"codec2": [], '),
        ('"versions": {', '"versions": {"av2": 3, '),
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
