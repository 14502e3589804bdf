"""`Render` gives the loader's pixels for single videos from any reader."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from loaders import LoaderError, Render, ViewSpec, open_loader
from loaders.render import Views, key_number
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tests.make_videos import make_video


def assert_equal(one: Views, other: Views) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def loaders_views(shards: Manifest, views: str | ViewSpec, **options: Any) -> dict[str, Views]:
    """Key -> views of epoch 2, seed 5."""
    found = {}
    with open_loader(shards, views, seed=5, device="cpu", batch_size=3, **options) as loader:
        for batch in loader.batches(2):
            for b, key in enumerate(batch.keys):
                if key:
                    found[key] = {name: group[b].clone() for name, group in batch.views.items()}
    assert found.keys() == set(shards.keys)
    return found


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_with_the_row_as_its_number_a_video_gets_the_loader_s_views(
    numbered_shards: Manifest, tiny_views: ViewSpec, engine: str
) -> None:
    options: dict[str, Any] = {"engine": engine, "normalization": "kinetics", "dtype": "float16"}
    expected = loaders_views(numbered_shards, tiny_views, **options)
    render = Render(tiny_views, seed=5, **options)
    with ShardReader(numbered_shards) as reader:
        for key, views in expected.items():
            row = numbered_shards.row_of(key)
            assert_equal(render.views(reader.read(row), key=row, epoch=2), views)
    assert views["short"].movedim(-4, -1).is_contiguous()


def test_draws_depend_on_seed_epoch_and_key(tmp_path: Path, tiny_views: ViewSpec) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=30)
    render = Render(tiny_views, seed=1)
    once = render.views(path, key="a", epoch=3)
    assert_equal(once, Render(tiny_views, seed=1).views(path.read_bytes(), key="a", epoch=3))
    assert_equal(once, render.views(path, key=key_number("a"), epoch=3))
    for other in (
        render.views(path, key="b", epoch=3),
        render.views(path, key="a", epoch=4),
        Render(tiny_views, seed=2).views(path, key="a", epoch=3),
    ):
        assert not torch.equal(once["long"], other["long"])


def test_the_webdataset_library_as_the_reader(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    webdataset = pytest.importorskip("webdataset")
    rows = {key: row for row, key in enumerate(numbered_shards.keys)}
    render = Render(tiny_views, seed=5, number=rows.__getitem__)
    render.epoch = 2
    urls = [str(numbered_shards.shard_path(name)) for name in numbered_shards.shard_names]
    expected = loaders_views(numbered_shards, tiny_views)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = list(
            webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).map(render)
        )
    found = {sample["__key__"].rpartition("/")[2]: sample for sample in samples}
    assert expected.keys() <= found.keys()
    for key, views in expected.items():
        assert_equal({name: found[key][name] for name in views}, views)
        assert "mp4" not in found[key]
        assert b"num_frames" in found[key]["json"]


class Folder(Dataset[Views]):
    """The videos of a folder, as a person would write it."""

    def __init__(self, root: Path, render: Render) -> None:
        self.paths, self.render = sorted(root.glob("*.mp4")), render

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Views:
        return self.render.views(self.paths[index], key=self.paths[index].stem, epoch=1)


def test_a_plain_data_loader_over_a_folder(tmp_path: Path, tiny_views: ViewSpec) -> None:
    for index in range(3):
        make_video(tmp_path / f"v{index}.mp4", num_frames=20 + index, seed=index)
    folder = Folder(tmp_path, Render(tiny_views))
    here = list(DataLoader(folder, batch_size=2))
    # A real worker process, to which the object is sent.
    worker = DataLoader(folder, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    for one, other in zip(here, worker, strict=True):
        assert_equal(one, other)
    assert here[0]["short"].shape == (2, *folder[0]["short"].shape)


def test_packets_without_frames_are_counted_out(tmp_path: Path, tiny_views: ViewSpec) -> None:
    """The count that a sample claims is too high; the frames that there are decide."""
    data = make_video(tmp_path / "a.mp4", num_frames=9).read_bytes()
    render = Render(tiny_views)
    assert_equal(
        render.views(data, key="a", epoch=0, num_frames=400), render.views(data, key="a", epoch=0)
    )


def test_what_cannot_be_rendered_is_named(tmp_path: Path, tiny_views: ViewSpec) -> None:
    render = Render(tiny_views)
    data = make_video(tmp_path / "a.mp4", num_frames=9).read_bytes()
    with pytest.raises(LoaderError, match="clip: cannot be decoded"):
        render.views(b"rubbish", key="clip", epoch=0)
    with pytest.raises(LoaderError, match=r"clip: No such file"):
        render.views(tmp_path / "none.mp4", key="clip", epoch=0)
    with pytest.raises(LoaderError, match="clip: "):
        render.views(data[: len(data) // 2], key="clip", epoch=0)
    with pytest.raises(InputError, match="sample 'x' has 0 videos among __key__, txt"):
        render({"__key__": "x", "txt": b"a"})
    with pytest.raises(InputError, match="sample 'x' has 2 videos among __key__, mp4, avi"):
        render({"__key__": "x", "mp4": data, "avi": data})
    with pytest.raises(InputError, match="epoch is -1"):
        render.views(data, key="a", epoch=-1)
    with pytest.raises(InputError, match="key is -1"):
        render.views(data, key=-1, epoch=0)
    for options, message in (
        ({"seed": -1}, "seed is -1"),
        ({"engine": "dali"}, "engine is 'dali': choose auto, fused or reference"),
        ({"dtype": "uint8", "normalization": "kinetics"}, "cannot hold normalised"),
        ({"size_px": 3}, "size_px is 3"),
    ):
        with pytest.raises(InputError, match=message):
            Render(tiny_views, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no views 'nothing'"):
        Render("nothing")


def test_a_sample_keeps_its_other_members(tmp_path: Path, tiny_views: ViewSpec) -> None:
    data = make_video(tmp_path / "a.mp4", num_frames=9).read_bytes()
    sample = Render(tiny_views)({"__key__": "x", "MP4": data, "cls": b"3"})
    assert (sample["__key__"], sample["cls"]) == ("x", b"3")
    assert sample.keys() == {"__key__", "cls", "long", "short"}
