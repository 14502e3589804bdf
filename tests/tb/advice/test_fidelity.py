"""PSNR compares the same part of the same frames, whatever size the pictures are stored in."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import open_loader
from loaders.plan.stage_views import view_spec
from shards.encode.geometry import Fit, PictureShape, fit
from shards.encode.recipe import Recipe
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tb.advice.fidelity import Served, common_crops, picture_shapes, psnr_db
from tests.make_videos import make_video

_SIDE = st.integers(64, 700)
_SHORT = st.integers(4, 40).map(lambda n: 16 * n)
_SHARE = st.floats(0.0, 1.0)


@given(_SIDE, _SIDE, _SHORT, _SHORT, st.floats(0.4, 1.0), _SHARE, _SHARE)
def test_both_crops_show_the_same_part_of_the_source(
    height: int, width: int, short: int, other: int, scale: float, down: float, right: float
) -> None:
    shape = PictureShape(height=height, width=width)
    one, two = (fit(shape, side) for side in (short, other))
    size = np.array([round(scale * one.height), round(scale * one.width)])
    start = (np.array([down, right]) * ((one.height, one.width) - size + 1)).astype(int)
    crops = np.concatenate([np.minimum(start, (one.height, one.width) - size), size])[None]
    ours, theirs = common_crops(crops, one, two)
    for crop, form in ((ours, one), (theirs, two)):
        begin, end = crop[0, :2], crop[0, :2] + crop[0, 2:]
        assert (begin >= 0).all()
        assert (begin < end).all()
        assert (end <= (form.height, form.width)).all()
    error_px = (_in_source(ours, one) - _in_source(theirs, two)) * _scaled(two)
    assert np.abs(error_px).max() <= 0.5 + 1e-6
    # What is cut off at an edge is up to 15 px of the second form.
    assert (np.abs(ours - crops) <= 16 + 2 * np.ceil(16 * _scaled(one) / _scaled(two)).max()).all()


def _in_source(crops: np.ndarray, form: Fit) -> np.ndarray:
    """(2, V, 2) edges of crops, as shares of the source's height and width."""
    edges = np.stack([crops[:, :2], crops[:, :2] + crops[:, 2:]])
    return np.asarray(np.add(edges, (form.top, form.left)) / _scaled(form))


def _scaled(form: Fit) -> np.ndarray:
    return np.array([form.scaled_height, form.scaled_width])


def test_crops_stay_where_both_are_stored_alike() -> None:
    form = fit(PictureShape(height=240, width=320), 160)
    crops = np.array([[0, 0, 160, 208], [3, 7, 101, 57]])
    ours, theirs = common_crops(crops, form, form)
    assert (ours == crops).all()
    assert (theirs == crops).all()


Serve = Callable[[Recipe], Served]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    for index, rotation in enumerate((None, 90, None)):
        path = root / "a" / f"{index}.mp4"
        make_video(path, height=176, width=234, rotation=rotation, paint=_waves)
    return root


def _waves(index: int) -> np.ndarray:
    """Waves that drift: neighbouring pixels differ, and half of them are enough to show all."""
    y, x = np.mgrid[0:176, 0:234]
    wave = 128 + 60 * (np.sin(x / 3 + index / 5) + np.sin(y / 3 - index / 4)) / 2
    return np.repeat(np.uint8(wave)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def serve(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with ExitStack() as opened:

        def serve(recipe: Recipe) -> Served:
            out = tmp_path_factory.mktemp("shards")
            ingest(from_folder(videos), out, recipe=recipe, workers=1)
            manifest = read_manifest(out)
            loader = open_loader(
                manifest, view_spec("student", 64), batch_size=2, engine="fused", device="cpu"
            )
            return Served(
                recipe=recipe,
                loader=opened.enter_context(loader),
                reader=opened.enter_context(ShardReader(manifest)),
            )

        yield serve


def test_psnr_falls_with_quality_and_size(serve: Serve, videos: Path) -> None:
    reference = serve(Recipe(quality=1))
    shapes = picture_shapes(from_folder(videos).sources)
    forms = [fit(shape, 160) for shape in shapes.values()]
    assert {(form.height, form.width) for form in forms} == {(160, 208), (208, 160)}
    assert psnr_db(reference, reference, shapes) == float("inf")
    fine, coarse = (psnr_db(serve(Recipe(quality=q)), reference, shapes) for q in (14, 30))
    assert fine > coarse + 3
    # At 96 px, 15 of 127 columns are cut off. If the views took no notice of that, the PSNR would
    # be 21 dB. It would be 41 dB if crops were rounded to the next pixel.
    small = serve(Recipe(quality=1, short_side_px=96))
    assert psnr_db(small, reference, shapes) > 45
