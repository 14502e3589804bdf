"""A manifest from a stranger is refused where one of its rows could do harm."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shards.errors import InputError
from shards.files.store import open_store
from shards.format.dataset_json import DATASET_NAME, read_dataset_json
from shards.format.manifest import Manifest, read_manifest, write_manifest
from shards.format.video import Video
from tests.shards.helpers import rewritten


@pytest.fixture
def root(manifest: Manifest, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(manifest.root, tmp_path / "copy"))


def _videos(root: Path) -> list[Video]:
    manifest = read_manifest(root)
    return [manifest.video(row) for row in range(len(manifest))]


def _rewrite(root: Path, videos: list[Video]) -> None:
    (root / ".ingest").mkdir(exist_ok=True)
    num_videos = len(videos)
    about = replace(read_dataset_json(root), num_videos=num_videos, num_sources=num_videos)
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
    assert f"row 3: {column} must not be " in message


def test_a_row_that_lacks_a_value_is_refused(root: Path) -> None:
    videos = _videos(root)
    videos[0] = replace(videos[0], group=None)  # type: ignore[arg-type]
    _rewrite(root, videos)
    with pytest.raises(InputError, match="row 0: group must not be none"):
        read_manifest(root)


def test_two_rows_of_one_key_are_refused(root: Path) -> None:
    videos = _videos(root)
    _rewrite(root, [*videos[:2], videos[0], *videos[2:]])
    with pytest.raises(InputError, match=f"row 2: key must not be '{videos[0].key}' a second time"):
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
    with pytest.raises(InputError, match=f"give num_videos 9, but {DATASET_NAME} has 10; run"):
        read_manifest(root)


_SHARD_9 = {"name": "shard-000009.tar", "num_bytes": 9, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("field", "claim"),
    [
        ("num_videos", {"num_videos": 11, "num_sources": 11}),
        ("num_frames", {"num_frames": 2**62}),
        ("num_frames", {"num_frames": 199}),
        ("counts", {"counts": [{"train": 999}]}),
        ("counts", {"counts": [{"train": 10, "val": 0}]}),
        ("counts", {"counts": [{"train": 10}, {"train": 10}]}),
        ("counts", {"counts": []}),
        ("shards", {"shards": [_SHARD_9]}),
        ("num_sources", {"num_skipped": 2**62}),
        ("num_sources", {"num_sources": 11}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": True}),
        ("seed", {"seed": 2**128}),
        ("seed", {"seed": 10**4000}),
        ("recipe", {"recipe": {"gop": 10**4000}}),
        ("recipe", {"recipe": {"fps": float("nan")}}),
    ],
)
def test_a_number_that_does_not_fit_is_refused(
    root: Path, field: str, claim: dict[str, Any]
) -> None:
    document = json.loads((root / DATASET_NAME).read_text())
    if "shards" in claim:
        claim = {"shards": document["shards"] + claim["shards"]}
    (root / DATASET_NAME).write_text(json.dumps(document | claim))
    with pytest.raises(InputError, match=rf"{field} .*run `tb shard` again"):
        read_manifest(root)


def test_rows_may_have_several_split_numbers(root: Path) -> None:
    splits = [("train", "test", ""), ("val", "test"), *(("train", "train") for _ in range(8))]
    pairs = zip(_videos(root), splits, strict=True)
    rewritten(root, read_dataset_json(root), [replace(one, splits=own) for one, own in pairs])
    counts = ({"train": 9, "val": 1}, {"test": 2, "train": 8}, {"unused": 1})
    assert read_dataset_json(root).counts == counts
    assert read_manifest(root).num_split_numbers == 2


def test_the_largest_seed_is_accepted(root: Path) -> None:
    document = json.loads((root / DATASET_NAME).read_text())
    (root / DATASET_NAME).write_text(json.dumps(document | {"seed": 2**128 - 1}))
    assert read_dataset_json(root).seed == 2**128 - 1


_HOSTILE = ["evil\n5\n4\n3\n# x", "\x1b[2J", "\x9b2J", "a\u2028b", "a\0b", "x" * 1025, "\ud800"]


@pytest.mark.parametrize("text", _HOSTILE)
@pytest.mark.parametrize("field", ["name", "classes", "counts", "versions", "recipe"])
def test_a_text_that_could_forge_lines_is_refused(root: Path, field: str, text: str) -> None:
    document = json.loads((root / DATASET_NAME).read_text())
    whole = {
        "name": [text],
        "classes": [[text, "spin"]],
        "counts": [[{text: 10}]],
        "versions": [{text: "1"}, {"av": text}],
        "recipe": [{text: 1}, {"codec": text}],
    }
    for value in whole[field]:
        (root / DATASET_NAME).write_text(json.dumps(document | {field: value}))
        with pytest.raises(InputError, match=rf"{field} (has|is) .*run `tb shard` again"):
            read_dataset_json(root)


@pytest.mark.parametrize("text", ["", "x" * 1024, "日\u3000本", "می\u200cخواهم", r"\xff"])
def test_other_texts_are_accepted(root: Path, text: str) -> None:
    document = json.loads((root / DATASET_NAME).read_text())
    changed = document | {"name": text, "classes": [text, "spin"]}
    (root / DATASET_NAME).write_text(json.dumps(changed))
    assert read_dataset_json(root).name == read_dataset_json(root).classes[0] == text


def test_the_longest_names_are_accepted(root: Path) -> None:
    videos = _videos(root)
    videos[0] = replace(videos[0], key="x" * 80, source="../a b\n/ü" * 50)
    _rewrite(root, videos)
    assert read_manifest(root).video(0) == videos[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"name": "shard-000000.tar"', '"name": "../../shard-000000.tar"'),
        ('"name": "shard-000000.tar"', '"name": "shard-٣.tar"'),
        ('"name": "shard-000000.tar"', f'"name": "shard-{"0" * 5000}.tar"'),
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
