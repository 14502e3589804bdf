"""Copies have the extension of their container."""

import tarfile
from pathlib import Path

from shards.encode.recipe import Recipe
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.table import from_csv
from shards.verification import verify
from tests.make_videos import make_video


def test_copies_have_the_extension_of_their_container_whatever_their_names(tmp_path: Path) -> None:
    names = ["a.json", "b", "c.m p4", "d." + "x" * 150, "e.mp4", "f.MP4", "g."]
    for index, name in enumerate(names):
        make_video(tmp_path / "v.mp4", num_frames=4, seed=index).rename(tmp_path / name)
    make_video(tmp_path / "v.mkv", num_frames=4).rename(tmp_path / "i.dat")
    table, out = tmp_path / "set.csv", tmp_path / "out"
    rows = [f"{name},x" for name in [*names, "i.dat"]]
    table.write_text("\n".join(["path,label", *rows]))
    ingest(from_csv(table), out, recipe=Recipe(codec="copy"))
    with tarfile.open(out / "shard-000000.tar") as tar:
        members = sorted(tar.getnames())
    keys = read_manifest(out).keys
    parts = {key: sorted(n.partition(".")[2] for n in members if n.startswith(key)) for key in keys}
    assert parts.pop("i") == ["json", "mkv"]
    assert list(parts.values()) == [["json", "mp4"]] * 7
    lines = (out / "shard-000000.idx").read_text().splitlines()[1:]
    assert all(len(line.split(" ")) == 8 for line in lines)
    assert verify(out, decode=True) == []
