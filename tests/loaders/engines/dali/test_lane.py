"""A bad sample kills only one DALI pipeline, and its lane goes on with a new one."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from loaders import DaliLayout, LoaderError, Skip, open_loader
from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tests.loaders.columns import without_index
from tests.loaders.engines.dali.conftest import NUM_VIDEOS, Shards, skip_undecoded

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")


def _damaged(manifest: Manifest, tmp_path: Path, part: bytes, *rows: int) -> Manifest:
    """A copy in which some videos lack a part; their digests fit, as if nothing were missing.

    `part` is a box of the MP4 file: b"moov" (its index) or b"mdat" (its pictures).
    """
    shutil.copytree(manifest.root, tmp_path / "damaged")
    digests = manifest.table.column("sha256").to_pylist()
    with ShardReader(manifest) as reader:
        for row in rows:
            video, data = manifest.video(row), bytearray(reader.read(row))
            box = data.rindex(part) - 4
            size = int.from_bytes(data[box : box + 4], "big")
            data[box + 8 : box + size] = bytes(size - 8)
            with (tmp_path / "damaged" / video.shard).open("r+b") as file:
                file.seek(video.offset)
                file.write(data)
            digests[row] = hashlib.sha256(data).hexdigest()
    column = manifest.table.schema.get_field_index("sha256")
    table = manifest.table.set_column(column, "sha256", pa.array(digests))
    return without_index(replace(manifest, root=tmp_path / "damaged", table=table))


@pytest.mark.parametrize("part", [b"moov", b"mdat"], ids=bytes.decode)
@pytest.mark.parametrize("bad", [(3,), (0, 1, 4), (2, 3, 6)], ids=str)
@pytest.mark.parametrize("codec", ["vp9", "mjpeg", "h264"])
def test_bad_videos_are_masked_and_named_and_the_rest_is_as_before(
    shards: Shards,
    codec: str,
    bad: tuple[int, ...],
    part: bytes,
    tiny: ViewSpec,
    device: str,
    tmp_path: Path,
) -> None:
    skip_undecoded(codec, device)
    if device == "cuda" and part == b"mdat":
        pytest.skip("NVDEC may conceal what is missing")
    options = {"engine": "dali", "device": device, "batch_size": 2, "shuffle": False}
    whole = list(open_loader(shards(codec), tiny, **options).batches(0))
    loader = open_loader(
        _damaged(shards(codec), tmp_path, part, *bad),
        tiny,
        **options,
        layout=DaliLayout(num_pipelines=2, depth=2),
        on_error=Skip(max_bad_share=1.0),
    )
    keys = {loader.manifest.keys[row] for row in bad}
    rows = []
    for ours, theirs in zip(loader.batches(0), whole, strict=True):
        rows += ours.plan.rows.tolist()
        assert ours.keys == theirs.keys
        for b, key in enumerate(ours.keys):
            assert bool(ours.valid[b]) == (key not in ("", *keys))
            for name, view in ours.views.items():
                expected = theirs.views[name][b] if ours.valid[b] else torch.zeros_like(view[b])
                assert torch.equal(view[b], expected)
    assert [row for row in rows if row >= 0] == list(range(NUM_VIDEOS))
    assert loader.bad.keys() == keys
    for key, reason in loader.bad.items():
        assert reason.startswith(f"{key} in ")
        assert len(reason.splitlines()) == 1


def test_a_bad_video_stops_the_run_by_name(
    shards: Shards, tiny: ViewSpec, device: str, tmp_path: Path
) -> None:
    manifest = _damaged(shards("vp9"), tmp_path, b"moov", 4)
    loader = open_loader(manifest, tiny, engine="dali", device=device, batch_size=2, shuffle=False)
    batches = loader.batches(0)
    assert [next(batches).valid.tolist() for _ in range(2)] == [[True, True]] * 2
    video = manifest.video(4)
    with pytest.raises(LoaderError, match=rf"^{video.key} in {video.shard}: \w+"):
        next(batches)


def test_a_changed_shard_is_named(
    shards: Shards, tiny: ViewSpec, device: str, tmp_path: Path
) -> None:
    whole = shards("vp9")
    changed = replace(_damaged(whole, tmp_path, b"mdat", 4), table=whole.table)
    loader = open_loader(
        changed, tiny, engine="dali", device=device, on_error=Skip(max_bad_share=1.0)
    )
    assert sum(int(batch.valid.sum()) for batch in loader.batches(0)) == NUM_VIDEOS - 1
    assert "checksum differs" in loader.bad[whole.keys[4]]


def test_what_is_no_videos_fault_is_not_blamed_on_one(
    shards: Shards, tiny: ViewSpec, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loaders.engines.dali.graph import Graph

    collect, calls = Graph.collect, iter(range(100))

    def fails_once(graph: Graph) -> list[torch.Tensor]:
        if next(calls) == 1:
            raise RuntimeError("the device caught fire")
        return collect(graph)

    monkeypatch.setattr(Graph, "collect", fails_once)
    loader = open_loader(
        shards("vp9"), tiny, engine="dali", device=device, batch_size=2, on_error="skip"
    )
    with pytest.raises(RuntimeError, match="caught fire"):
        list(loader.batches(0))
    assert not loader.bad
