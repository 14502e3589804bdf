"""A window of a video gives the frames that the whole file gives, and a fault names its GOP."""

import io
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders import LoaderError, Skip, ViewSpec, open_loader
from loaders.decode import decoded_frames
from loaders.plan import stage_views
from shards.decode.packet_decoder import DecodeError
from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.format.packet_index import packets_name
from shards.format.packets import Window
from shards.ingestion.ingest import ingest
from shards.reader import ShardError, ShardReader
from shards.sources.folder import from_folder
from tests.loaders.columns import without_index
from tests.make_videos import make_video
from tests.numbered import read_number
from tests.paired import paired
from tests.recipes import LENGTHS, RECIPES, RecipeShards


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_an_index(recipe_shards: RecipeShards, recipe: str) -> None:
    assert recipe_shards(recipe).has_packets.all()
    assert not without_index(recipe_shards(recipe)).has_packets.any()


@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(0, len(LENGTHS) - 1), data=st.data())
def test_any_frames_of_any_window(
    recipe_shards: RecipeShards, recipe: str, row: int, data: st.DataObject
) -> None:
    manifest = recipe_shards(recipe)
    num_frames = int(manifest.num_frames[row])
    wanted = data.draw(
        st.lists(st.integers(0, num_frames - 1), min_size=1, unique=True).map(sorted)
    )
    with ShardReader(manifest) as reader:
        window = reader.read_window(row, wanted[0], wanted[-1])
    assert window.byte_range.gop_frames[0] <= wanted[0]
    frames = decoded_frames(window, np.array(wanted), num_frames, window.size)
    assert len(frames) == len(wanted)
    for k, number in enumerate(wanted):
        assert read_number(frames[k].to_ndarray(format="gray")) == number


@pytest.mark.parametrize("recipe", RECIPES)
def test_pixels_at_every_gop_border_and_of_the_last_frame(
    recipe_shards: RecipeShards, recipe: str
) -> None:
    """Each alone and as a run over the border, against the stored file from its first frame on."""
    manifest = recipe_shards(recipe)
    row, gop = int(np.argmax(manifest.num_frames)), RECIPES[recipe].gop if recipe != "mjpeg" else 1
    last = int(manifest.num_frames[row]) - 1
    with ShardReader(manifest) as reader:
        with av.open(io.BytesIO(reader.read(row))) as container:
            whole = [frame.to_ndarray() for frame in container.decode(video=0)]
        borders = range(gop, last + 1, gop)
        runs = [(border - 1, border) for border in borders]
        singles = [(n, n) for n in {0, last, *borders, *(border - 1 for border in borders)}]
        for first, end in [*runs, *singles, (last - 1, last), (0, last)]:
            found = _pixels(reader.read_window(row, first, end), first, end)
            assert np.array_equal(found, whole[first : end + 1])


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_the_gops_of_the_window_are_read(recipe_shards: RecipeShards, recipe: str) -> None:
    manifest, gop = recipe_shards(recipe), RECIPES[recipe].gop if recipe != "mjpeg" else 1
    row = int(np.argmax(manifest.num_frames))
    with ShardReader(manifest) as reader:
        for first, last in [(0, 0), (gop - 1, gop), (gop, 2 * gop - 1), (69, 69)]:
            window = reader.read_window(row, first, last)
            expected = range(first // gop, last // gop + 1)
            assert window.byte_range.gop_frames == tuple(number * gop for number in expected)
            end = min((last // gop + 1) * gop, 70)
            assert len(window.byte_range.offsets) - 1 == end - window.byte_range.gop_frames[0]
            assert window.byte_range.offsets[-1] == len(window.data) < manifest.sizes[row]


@pytest.mark.parametrize("engine", ["fused", "reference"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_windows_and_whole_files_give_the_same_batches(
    recipe_shards: RecipeShards, recipe: str, engine: str
) -> None:
    specs = [
        stage_views.pretrain(num_frames=4, size_px=32, num_slices=2),
        stage_views.finetune(size_px=32),
        stage_views.finetune(size_px=32, stride=None),
        stage_views.evaluation(size_px=32, num_clips=3),
    ]
    for spec in specs:
        windows, whole = (
            open_loader(manifest, spec, engine=engine, batch_size=2, seed=3).batches(1)
            for manifest in (recipe_shards(recipe), without_index(recipe_shards(recipe)))
        )
        for ours, theirs in paired(windows, whole):
            assert ours.keys == theirs.keys
            assert all(torch.equal(ours.views[name], theirs.views[name]) for name in theirs.views)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bit=st.integers(0, 2**32), recipe=st.sampled_from(["h264", "mjpeg"]))
def test_any_flipped_bit_of_a_window_is_named(
    recipe_shards: RecipeShards, tmp_path_factory: pytest.TempPathFactory, bit: int, recipe: str
) -> None:
    manifest = recipe_shards(recipe)
    row, first, last = int(np.argmax(manifest.num_frames)), 20, 40
    video = manifest.video(row)
    with ShardReader(manifest) as reader:
        window = reader.read_window(row, first, last)
    with (manifest.root / video.shard).open("rb") as file:
        file.seek(video.offset)
        begin = file.read(video.size).index(window.data)
    copy = _copied(manifest, tmp_path_factory.mktemp("flipped"))
    bit %= 8 * len(window.data)
    with (copy.root / video.shard).open("r+b") as file:
        place = video.offset + begin + bit // 8
        file.seek(place)
        value = file.read(1)[0] ^ (1 << bit % 8)
        file.seek(place)
        file.write(bytes([value]))
    numbers = [
        window.byte_range.offsets[n - window.byte_range.gop_frames[0]]
        for n in window.byte_range.gop_frames
    ]
    damaged = int(np.searchsorted(numbers, bit // 8, side="right")) - 1
    gop = window.byte_range.gop_frames[damaged] // (16 if recipe == "h264" else 1)
    with (
        ShardReader(copy) as reader,
        pytest.raises(ShardError, match=f"{video.key} in .*{video.shard}: GOP {gop} is not"),
    ):
        reader.read_window(row, first, last)


def _copied(manifest: Manifest, folder: Path) -> Manifest:
    shutil.copytree(manifest.root, folder / "copy")
    return replace(manifest, root=folder / "copy")


def test_a_fault_in_one_video_never_shows_in_the_next(recipe_shards: RecipeShards) -> None:
    """The same thread, the same decoder: a window whose packets are rubbish, then good ones."""
    for recipe in RECIPES:
        manifest = recipe_shards(recipe)
        row = int(np.argmax(manifest.num_frames))
        with ShardReader(manifest) as reader:
            good = reader.read_window(row, 5, 30)
        expected = _pixels(good, 5, 30)
        for damage in (_zeros, _shuffled, _cut):
            for _ in range(2):
                with suppress(DecodeError):  # some rubbish decodes, to rubbish
                    _pixels(damage(good), 5, 30)
                assert all(map(np.array_equal, _pixels(good, 5, 30), expected))


def _pixels(window: Window, first: int, last: int) -> list[np.ndarray]:
    frames = decoded_frames(window, np.arange(first, last + 1), 70, window.size)
    return [frame.to_ndarray() for frame in frames]


def _zeros(window: Window) -> Window:
    return replace(window, data=bytes(len(window.data)))


def _shuffled(window: Window) -> Window:
    order = np.random.default_rng(0).permutation(len(window.data))
    return replace(window, data=np.frombuffer(window.data, np.uint8)[order].tobytes())


def _cut(window: Window) -> Window:
    return replace(window, data=window.data[: len(window.data) // 2])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "packet index: No such file"),
        (lambda path: path.write_bytes(b"rubbish"), "packet index is not a packet index"),
        (lambda path: path.write_bytes(_flipped(path)), "packet index is not the one that was"),
    ],
    ids=["gone", "rubbish", "flipped"],
)
def test_a_damaged_index_is_named(
    recipe_shards: RecipeShards, tmp_path: Path, tiny_views: ViewSpec, change: Any, reason: str
) -> None:
    manifest = _copied(recipe_shards("h264"), tmp_path)
    change(manifest.root / packets_name(manifest.shard_names[0]))
    with pytest.raises(LoaderError, match=reason):
        list(open_loader(manifest, tiny_views).batches(0))
    loader = open_loader(manifest, tiny_views, on_error=Skip(max_bad_share=1.0))
    list(loader.batches(0))
    assert loader.bad


def _flipped(path: Path) -> bytes:
    """One bit wrong, where the sizes lie."""
    data = bytearray(path.read_bytes())
    with pa.ipc.open_file(pa.py_buffer(bytes(data))) as file:
        sizes = file.get_batch(0).column("sizes").values.to_numpy().tobytes()
    data[bytes(data).index(sizes)] ^= 1
    return bytes(data)


def test_batches_without_a_cache_are_the_same(
    recipe_shards: RecipeShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    local, url = recipe_shards("h264"), f"memory://{tmp_path.name}/shards"
    fsspec.filesystem("memory").put(f"{local.root}/", f"{url}/", recursive=True)
    with (
        open_loader(local, "student", batch_size=2, size_px=32) as expected,
        open_loader(url, "student", batch_size=2, size_px=32, cache=False) as found,
    ):
        for one, other in paired(expected, found):
            assert one.keys == other.keys
            assert torch.equal(one.views["clip"], other.views["clip"])
    assert not list((tmp_path / "cache").rglob("*.tar"))


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_windows_of_large_pictures_whose_sides_are_no_multiples_of_64(
    tmp_path: Path, codec: str
) -> None:
    """FFmpeg counts the pixels of whole blocks against the limit of a decoder."""
    height, width = 784, 1360
    path = make_video(tmp_path / "a" / "a.mp4", num_frames=3, height=height, width=width)
    ingest(
        from_folder(path.parents[1], min_per_class=1),
        tmp_path / "shards",
        recipe=Recipe(codec=codec, short_side_px=height),
    )
    manifest = read_manifest(tmp_path / "shards")
    assert manifest.has_packets.all()
    with ShardReader(manifest) as reader:
        window = reader.read_window(0, 0, 2)
    assert len(decoded_frames(window, np.arange(3), 3, (height, width))) == 3
