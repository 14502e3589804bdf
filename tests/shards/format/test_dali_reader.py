"""DALI's own reader and decoder take the shards as they are, on the CPU."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.format.shard import index_name
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder

dali = pytest.importorskip("nvidia.dali")


def _paths(manifest: Manifest) -> tuple[list[str], list[str]]:
    shards = [str(manifest.root / name) for name in manifest.shard_names]
    return shards, [str(manifest.root / index_name(name)) for name in manifest.shard_names]


def test_dalis_webdataset_reader_gives_the_same_bytes(manifest: Manifest) -> None:
    paths, index_paths = _paths(manifest)

    @dali.pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def pipeline():  # type: ignore[no-untyped-def]
        return tuple(
            dali.fn.readers.webdataset(
                paths=paths,
                index_paths=index_paths,
                ext=["mp4", "json"],
                missing_component_behavior="error",
            )
        )

    built = pipeline()
    built.build()
    with ShardReader(manifest) as reader:
        for index in range(len(manifest)):
            video, json_text = (np.asarray(output.at(0)).tobytes() for output in built.run())
            assert video == reader.read(index)
            assert f'"key":"{manifest.keys[index]}"'.encode() in json_text


@pytest.mark.skipif(not shutil.which("tar"), reason="wds2idx needs the tar program")
def test_the_index_is_the_one_that_dali_makes(manifest: Manifest, tmp_path: Path) -> None:
    for name in manifest.shard_names:
        made = tmp_path / index_name(name)
        command = [sys.executable, "-m", "wds2idx", str(manifest.root / name), str(made)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert made.read_text() == (manifest.root / made.name).read_text()


@pytest.mark.parametrize("codec", ["vp9", "mjpeg"])
def test_dali_decodes_windows_on_the_cpu(videos: Path, tmp_path: Path, codec: str) -> None:
    ingest(from_folder(videos), tmp_path / "out", recipe=Recipe(codec=codec, short_side_px=128))
    manifest = read_manifest(tmp_path / "out")
    with ShardReader(manifest) as reader:
        samples = [np.frombuffer(reader.read(index), np.uint8) for index in range(len(manifest))]

    @dali.pipeline_def(batch_size=len(samples), num_threads=1, device_id=None)
    def pipeline():  # type: ignore[no-untyped-def]
        encoded = dali.fn.external_source(source=lambda: samples, dtype=dali.types.UINT8)
        return dali.fn.decoders.video(encoded, device="cpu", start_frame=9, sequence_length=11)

    built = pipeline()
    built.build()
    (clips,) = built.run()
    for index in range(len(manifest)):
        video = manifest.video(index)
        assert np.asarray(clips.at(index)).shape == (11, video.height, video.width, 3)
