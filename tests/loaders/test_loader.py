"""The loader keeps its promises on real shards: exactly once, same content, same resume."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders import Batch, open_loader
from loaders.plan.draw import Plan
from loaders.plan.stage_views import finetune
from loaders.plan.views import Augment, ViewGroup, ViewSpec
from loaders.subset import Subset
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from tests.numbered import read_number
from tests.paired import paired

# With threads here, and with the loader process.
pytestmark = pytest.mark.usefixtures("place")

NUM_VIDEOS = 11
Content = dict[tuple[int, str], bytes]


def _content(batches: Iterable[Batch]) -> Content:
    """(epoch, key) -> the bytes of all its views and its label."""
    content: Content = {}
    for batch in batches:
        for b, key in enumerate(batch.keys):
            if batch.valid[b]:
                place = (int(batch.plan.epochs[b]), key)
                assert place not in content
                views = [batch.views[name][b].numpy().tobytes() for name in sorted(batch.views)]
                content[place] = b"".join(views) + bytes([int(batch.labels[b])])
    return content


def _assert_same(ours: Batch, theirs: Batch) -> None:
    assert ours.keys == theirs.keys
    assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(ours.valid, theirs.valid)
    assert ours.views.keys() == theirs.views.keys()
    assert all(torch.equal(ours.views[name], theirs.views[name]) for name in ours.views)


@pytest.fixture
def read_shards(numbered_shards: Manifest, read_as: Callable[[Manifest], Manifest]) -> Manifest:
    """The numbered shards, read by windows and as whole files."""
    return read_as(numbered_shards)


@pytest.fixture(scope="module")
def expected(numbered_shards: Manifest, tiny_views: ViewSpec) -> Content:
    """Two epochs, one video at a time, one worker."""
    loader = open_loader(numbered_shards, tiny_views, batch_size=1, num_workers=1, seed=4)
    content = _content(loader.batches(0)) | _content(loader.batches(1))
    assert len(content) == 2 * NUM_VIDEOS
    return content


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    epoch=st.integers(0, 1),
    batch_size=st.integers(1, 13),
    world_size=st.integers(1, 4),
    num_workers=st.integers(1, 3),
    shuffle=st.booleans(),
    order=st.sampled_from(["global", "windowed"]),
)
def test_every_video_once_over_the_ranks_with_the_same_pixels(
    read_shards: Manifest,
    tiny_views: ViewSpec,
    expected: Content,
    epoch: int,
    batch_size: int,
    world_size: int,
    num_workers: int,
    shuffle: bool,
    order: Literal["global", "windowed"],
) -> None:
    served: Content = {}
    lengths = set()
    for rank in range(world_size):
        loader = open_loader(
            read_shards,
            tiny_views,
            batch_size=batch_size,
            num_workers=num_workers,
            rank=rank,
            world_size=world_size,
            shuffle=shuffle,
            order=order if shuffle else None,
            seed=4,
        )
        batches = list(loader.batches(epoch))
        assert len(batches) == len(loader)
        lengths.add(len(batches))
        share = _content(batches)
        assert not share.keys() & served.keys()
        served |= share
    assert len(lengths) == 1
    assert served == {place: value for place, value in expected.items() if place[0] == epoch}


def test_resume_equals_the_tail_at_every_position(
    read_shards: Manifest, tiny_views: ViewSpec
) -> None:
    loader = open_loader(read_shards, tiny_views, batch_size=3)
    whole = list(loader.batches(epoch=2))
    for start in range(len(loader) + 1):
        tail = list(loader.batches(epoch=2, start=start))
        assert len(tail) == len(whole) - start
        for ours, theirs in zip(tail, whole[start:], strict=True):
            _assert_same(ours, theirs)


def test_the_stream_resumes_too(read_shards: Manifest, tiny_views: ViewSpec) -> None:
    loader = open_loader(read_shards, tiny_views, batch_size=4)
    whole = list(islice(loader.stream(), 9))
    for start in (0, 2, 3, 7):
        tail = islice(loader.stream(start), 9 - start)
        for ours, theirs in paired(tail, whole[start:]):
            _assert_same(ours, theirs)


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_global_batch_is_the_same_for_any_number_of_ranks(
    read_shards: Manifest, tiny_views: ViewSpec, world_size: int
) -> None:
    alone = open_loader(read_shards, tiny_views, batch_size=4)
    ranks = [
        open_loader(
            read_shards,
            tiny_views,
            batch_size=4 // world_size,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    shared = paired(*(rank.batches(epoch=1, start=1) for rank in ranks))
    for whole, parts in paired(alone.batches(epoch=1, start=1), shared):
        assert whole.keys == tuple(key for part in parts for key in part.keys)
        for name in whole.views:
            assert torch.equal(whole.views[name], torch.cat([part.views[name] for part in parts]))


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_views_show_the_frames_of_the_plan(read_shards: Manifest, engine: str) -> None:
    offsets = (tuple(range(0, 32, 2)), tuple(range(15, -1, -1)))
    spec = ViewSpec(
        name="numbers",
        groups=(ViewGroup(name="clips", shape=(2,), offsets=offsets),),
        size_px=48,
        start="random",
        window=32,
        augment=Augment(),
    )
    num_read = 0
    for batch in open_loader(read_shards, spec, engine=engine, dtype="uint8").batches(3):
        for b, v, t in np.argwhere(batch.plan.frames[batch.valid.numpy()] >= 0):
            luma = batch.views["clips"][b, v, :, t].float().mean(0).numpy()
            assert read_number(luma) == batch.plan.frames[b, v, t]
            num_read += 1
    assert num_read == len(read_shards.indices("train")) * 2 * 16


def test_shapes_and_layout(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    batch = next(iter(open_loader(numbered_shards, tiny_views, batch_size=3).batches(0)))
    assert batch.views["long"].shape == (3, 2, 3, 4, 16, 16)
    assert batch.views["short"].shape == (3, 2, 2, 3, 4, 16, 16)
    flat = batch.views["short"].flatten(0, 2)
    assert flat.is_contiguous(memory_format=torch.channels_last_3d)
    assert flat.data_ptr() == batch.views["short"].data_ptr()
    clip = next(iter(open_loader(numbered_shards, finetune(size_px=32)).batches(0))).views["clip"]
    assert clip.shape == (8, 3, 8, 32, 32)


def test_types_agree(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    exact, half, byte = (
        next(iter(open_loader(numbered_shards, tiny_views, dtype=dtype).batches(0))).views["long"]
        for dtype in ("float32", "float16", "uint8")
    )
    assert (exact.dtype, half.dtype, byte.dtype) == (torch.float32, torch.float16, torch.uint8)
    assert exact.min() >= 0
    assert exact.max() <= 1
    assert (half.float() - exact).abs().max() <= 2**-11
    assert (byte.float() - exact * 255).abs().max() <= 0.5 + 1e-3


def test_labels_of_the_unlabelled_are_hidden(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    for part in ("labelled", "unlabelled"):
        subset = Subset(part=part, percent=50)
        loader = open_loader(numbered_shards, tiny_views, subset=subset)
        batches = list(loader.batches(0))
        assert batches
        for batch in batches:
            labels = batch.labels[batch.valid]
            if part == "unlabelled":
                assert (labels == -1).all()
            else:
                assert [numbered_shards.classes[i] for i in labels] == [
                    str(key).split("/")[0].split("_")[0] for key in batch.keys if key
                ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"rank": 2, "world_size": 2}, "rank is 2 and world_size is 2"),
        ({"dtype": "int8"}, "dtype is 'int8': choose one of float32"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"order": "random"}, "order is 'random': choose global or windowed"),
        ({"engine": "fast"}, "engine is 'fast': choose one of auto"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"device": "tpu9"}, "device 'tpu9' is not usable"),
        ({"size_px": 3}, "size_px is 3"),
    ],
)
def test_wrong_arguments_are_named(
    numbered_shards: Manifest, tiny_views: ViewSpec, arguments: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        open_loader(numbered_shards, tiny_views, **arguments)  # type: ignore[arg-type]


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a shards folder"):
        open_loader(tmp_path, "pretrain")


@pytest.mark.parametrize("when", ["before it is opened", "after it is opened"])
def test_the_current_folder_may_change(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    expected: Content,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    when: str,
) -> None:
    """Hydra changes it, for instance; a loader process keeps the folder in which it was started."""
    with monkeypatch.context() as folder:
        folder.chdir(numbered_shards.root.parent)
        manifest = read_manifest(numbered_shards.root.name)
        if when == "before it is opened":
            folder.chdir(tmp_path)
        with open_loader(manifest, tiny_views, batch_size=1, num_workers=1, seed=4) as loader:
            folder.chdir(tmp_path)
            content = _content(loader.batches(0))
    assert len(content) == NUM_VIDEOS
    assert content.items() <= expected.items()


def test_positions_outside_the_epoch_are_named(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    loader = open_loader(numbered_shards, tiny_views)
    for call in (
        lambda: loader.batches(-1),
        lambda: loader.batches(0, -1),
        lambda: loader.batches(0, len(loader) + 1),
        lambda: loader.stream(-1),
    ):
        with pytest.raises(InputError, match=r"epoch|start"):
            call()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"percent": 5}, "percent is 5, which means nothing for part 'all'"),
        ({"label_seed": 1}, "label_seed is 1, which means nothing for part 'all'"),
        ({"label_list": "list.txt"}, "label_list is list.txt, which means nothing for part 'all'"),
        ({"validation": 0.1}, "validation is 0.1, which means nothing for part 'all'"),
        (
            {"part": "labelled", "label_list": "a", "percent": 5},
            "label_list and percent 5 are both",
        ),
        (
            {"part": "unlabelled", "percent": 50, "validation": 0.5},
            "validation is 0.5, which means nothing for part 'unlabelled'",
        ),
        (
            {"part": "labelled", "label_list": "a", "label_seed": 5},
            "label_seed is 5, but no choice is drawn",
        ),
        ({"part": "labelled", "label_seed": 5}, "label_seed is 5, but no choice is drawn"),
    ],
)
def test_no_argument_of_a_subset_is_ignored(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Subset(**arguments)  # type: ignore[arg-type]


def test_a_seed_changes_nothing_where_nothing_is_random(numbered_shards: Manifest) -> None:
    loaders = [open_loader(numbered_shards, "eval", seed=seed, shuffle=False) for seed in (0, 1)]
    for ours, theirs in paired(*(loader.plans(0) for loader in loaders)):
        for field in fields(Plan):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))
