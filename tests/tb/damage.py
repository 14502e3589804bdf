"""Videos that go bad: copies of shards in which some videos cannot be decoded any more."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from shards.format.manifest import Manifest, read_manifest


def damaged_copy(manifest: Manifest, root: Path, keys: Iterable[str]) -> Manifest:
    """A copy of the shards in `root` with some bad videos."""
    shutil.copytree(manifest.root, root)
    copy = read_manifest(root)
    for key in keys:
        damage(copy, key)
    return copy


def damage(manifest: Manifest, key: str) -> None:
    """Overwrites a video, so that every checksum of it differs."""
    video = manifest.video(manifest.keys.index(key))
    with (manifest.root / video.shard).open("r+b") as file:
        file.seek(video.offset)
        data = file.read(video.size)
        file.seek(video.offset)
        file.write(bytes(255 - byte for byte in data))
