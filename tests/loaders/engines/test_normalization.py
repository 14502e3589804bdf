"""Normalised views are the plain views, mapped: the same for every engine and type."""

from dataclasses import replace

import pytest
import torch

from loaders import Normalization, ViewSpec, open_loader
from loaders.plan.normalization import NORMALIZATIONS
from loaders.plan.stage_views import finetune, view_spec
from shards.errors import InputError
from shards.format.manifest import Manifest
from tests.loaders.engines.test_parity import EVERYTHING
from tests.paired import paired

MEAN = torch.tensor(NORMALIZATIONS["kinetics"].mean).view(3, 1, 1, 1)
STD = torch.tensor(NORMALIZATIONS["kinetics"].std).view(3, 1, 1, 1)


@pytest.fixture
def spec() -> ViewSpec:
    """Every operation in small views: gamma in some, erased rectangles in all."""
    return finetune(num_frames=4, size_px=16, augment=EVERYTHING)


@pytest.mark.parametrize("engine", ["fused", "reference", "dali"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_engine_maps_each_channel(
    numbered_shards: Manifest, spec: ViewSpec, engine: str, dtype: str
) -> None:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    options = {"engine": engine, "dtype": dtype, "batch_size": 4, "device": "cpu"}
    plain = open_loader(numbered_shards, spec, **options)
    normalised = open_loader(numbered_shards, spec, normalization="kinetics", **options)
    num_gammas = num_black = 0
    for one, other in paired(plain.batches(0), normalised.batches(0)):
        num_gammas += int((one.plan.gamma[one.valid.numpy()] != 1).sum())
        valid = one.valid
        before, after = (batch.views["clip"].float() for batch in (one, other))
        expected = (before[valid] - MEAN) / STD
        tolerance = 1e-5 if dtype == "float32" else 2**-9
        torch.testing.assert_close(after[valid], expected, rtol=tolerance, atol=tolerance)
        num_black += int((before[valid] == 0).all(1).sum())
        assert (after[~valid] == 0).all()  # padding is no picture
    assert num_gammas > 0
    assert num_black > 0
    assert not one.valid.all()


def test_values_that_a_type_cannot_hold_are_refused(
    numbered_shards: Manifest, spec: ViewSpec
) -> None:
    for engine in ("fused", "reference"):
        with pytest.raises(InputError, match="dtype is 'uint8', which cannot hold normalised"):
            open_loader(
                numbered_shards, spec, engine=engine, dtype="uint8", normalization="imagenet"
            )


def test_the_loader_process_normalises_too(numbered_shards: Manifest, spec: ViewSpec) -> None:
    options = {"normalization": "kinetics", "batch_size": 4, "device": "cpu"}
    here = open_loader(numbered_shards, spec, **options)
    beside = open_loader(numbered_shards, spec, in_process=False, **options)
    for one, other in paired(here.batches(0), beside.batches(0)):
        assert torch.equal(one.views["clip"], other.views["clip"])
        assert one.views["clip"].min() < -1


def test_a_name_replaces_what_the_views_have(spec: ViewSpec) -> None:
    kinetics = NORMALIZATIONS["kinetics"]
    with_it = replace(spec, normalization=kinetics)
    assert view_spec(with_it) == with_it
    assert view_spec(with_it, normalization="none") == spec
    assert view_spec(spec, normalization="kinetics") == with_it
    other = Normalization(mean=[0, 0.5, 1], std=[1, 0.5, 0.001])  # type: ignore[arg-type]
    assert view_spec(with_it, normalization=other).normalization == other


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": (0.5, 0.5)}, r"mean is \(0.5, 0.5\): give three numbers from 0 to 1"),
        ({"mean": (0.5, 0.5, 114)}, "mean is"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean is"),
        ({"mean": 0.5}, "mean is 0.5"),
        ({"mean": ("a", "b", "c")}, "mean is"),
        ({"std": (0.2, 0, 0.2)}, r"std is \(0.2, 0, 0.2\): give three numbers from 0.001 to 1"),
        ({"std": (0.2, -1, 0.2)}, "std is"),
        ({"std": (58.4, 57.1, 57.4)}, "std is"),
    ],
)
def test_bad_values_are_refused_with_the_name_of_the_field(
    values: dict[str, object], message: str
) -> None:
    good = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
    with pytest.raises(InputError, match=message):
        Normalization(**{**good, **values})  # type: ignore[arg-type]


def test_an_unknown_name_is_refused(numbered_shards: Manifest, spec: ViewSpec) -> None:
    with pytest.raises(
        InputError, match="normalization is 'kinetic': choose one of none, kinetics"
    ):
        open_loader(numbered_shards, spec, normalization="kinetic")
