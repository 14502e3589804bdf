"""Several windows of each video in an epoch, as pixels of real shards."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders import Batch, Render, open_loader
from loaders.plan.stage_views import finetune
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tests.paired import paired

# With threads here, and with the loader process.
pytestmark = pytest.mark.usefixtures("place")

CLIPS = 3
Content = dict[tuple[int, str, int], bytes]


def content_of(batches: Iterable[Batch]) -> Content:
    """(epoch, key, clip) -> the bytes of all its views."""
    content: Content = {}
    for batch in batches:
        for b, key in enumerate(batch.keys):
            if batch.valid[b]:
                window = (int(batch.plan.epochs[b]), key, int(batch.plan.clips[b]))
                assert window not in content
                views = [batch.views[name][b].numpy().tobytes() for name in sorted(batch.views)]
                content[window] = b"".join(views)
    return content


@pytest.fixture(scope="module")
def expected(numbered_shards: Manifest, tiny_views: ViewSpec) -> Content:
    """Two epochs, one video at a time, one worker."""
    loader = open_loader(
        numbered_shards, tiny_views, batch_size=1, num_workers=1, clips_per_video=CLIPS
    )
    content = content_of(loader.batches(0)) | content_of(loader.batches(1))
    assert len(content) == 2 * CLIPS * len(numbered_shards)
    return content


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    batch_size=st.integers(1, 13),
    world_size=st.integers(1, 3),
    num_workers=st.integers(1, 3),
    order=st.sampled_from(["global", "windowed", None]),
)
def test_pixels_depend_on_the_window_alone(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    expected: Content,
    batch_size: int,
    world_size: int,
    num_workers: int,
    order: Any,
) -> None:
    served: Content = {}
    for rank in range(world_size):
        loader = open_loader(
            numbered_shards,
            tiny_views,
            batch_size=batch_size,
            num_workers=num_workers,
            rank=rank,
            world_size=world_size,
            shuffle=order is not None,
            order=order,
            clips_per_video=CLIPS,
        )
        share = content_of(loader.batches(1))
        assert not share.keys() & served.keys()
        served |= share
    assert served == {window: value for window, value in expected.items() if window[0] == 1}
    assert len({window[1] for window in served}) * CLIPS == len(served)


@pytest.mark.parametrize("engine", ["fused", "reference", "dali"])
def test_every_engine_shows_each_clip_as_if_it_were_alone(
    numbered_shards: Manifest, engine: str
) -> None:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    spec = finetune(num_frames=4, size_px=16)
    options: dict[str, Any] = {"engine": engine, "device": "cpu", "clips_per_video": CLIPS}
    alone, batched = (
        open_loader(numbered_shards, spec, batch_size=size, num_workers=1, **options)
        for size in (1, 5)
    )
    content = content_of(batched.batches(1))
    assert content == content_of(alone.batches(1))
    windows = {(1, key, clip) for key in numbered_shards.keys for clip in range(CLIPS)}
    assert content.keys() == windows
    # Windows of long videos start at different frames, so their pixels differ.
    assert len({content[1, numbered_shards.keys[-1], clip] for clip in range(CLIPS)}) == CLIPS


def test_clip_0_has_the_pixels_of_one_clip_per_video(
    numbered_shards: Manifest, tiny_views: ViewSpec, expected: Content
) -> None:
    loader = open_loader(numbered_shards, tiny_views)
    one = content_of(loader.batches(1))
    assert one == {key: value for key, value in expected.items() if key[0] == 1 and key[2] == 0}


def test_resume_and_stream_at_every_position(
    numbered_shards: Manifest, tiny_views: ViewSpec, expected: Content
) -> None:
    options: dict[str, Any] = {"batch_size": 5, "clips_per_video": CLIPS}
    loader = open_loader(numbered_shards, tiny_views, **options)
    assert len(loader) == 7  # 33 windows
    whole = [{**batch.views} for batch in loader.batches(0)]
    resumed = open_loader(numbered_shards, tiny_views, **options)
    for index, batch in enumerate(loader):
        assert torch.equal(batch.views["long"], whole[index]["long"])
        if index in (0, 3):
            resumed.load_state_dict(loader.state_dict())
            for ours, theirs in paired(resumed, whole[index + 1 :]):
                assert torch.equal(ours.views["short"], theirs["short"])
    stream = content_of(islice(loader.stream(), 13))
    assert len(stream) == 65
    assert stream.items() <= expected.items()
    assert content_of(islice(loader.stream(4), 9)).items() <= stream.items()


def test_a_state_belongs_to_its_number_of_clips(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    three, one = (
        open_loader(numbered_shards, tiny_views, clips_per_video=clips) for clips in (CLIPS, 1)
    )
    with pytest.raises(InputError, match="its clips_per_video is 3, this loader's is 1"):
        one.load_state_dict(three.state_dict())
    with pytest.raises(InputError, match="its clips_per_video is 1, this loader's is 3"):
        three.load_state_dict(one.state_dict())
    lacking = {name: value for name, value in one.state_dict().items() if name != "clips_per_video"}
    with pytest.raises(InputError, match="its clips_per_video is None, this loader's is 1"):
        one.load_state_dict(lacking)


def test_render_draws_the_same_clips(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    render = Render(tiny_views)
    loader = open_loader(numbered_shards, tiny_views, batch_size=4, clips_per_video=CLIPS)
    with ShardReader(numbered_shards) as reader:
        for (batch,) in paired(islice(loader.batches(1), 2)):
            for b, row in enumerate(batch.plan.rows.tolist()):
                clip = int(batch.plan.clips[b])
                views = render.views(reader.read(row), key=row, epoch=1, clip=clip)
                assert torch.equal(views["long"], batch.views["long"][b])
        with pytest.raises(InputError, match="clip is -1: give a number"):
            render.views(reader.read(0), key=0, epoch=0, clip=-1)
