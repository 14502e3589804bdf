"""The memory of the DALI engine, by arithmetic."""

import pytest

from loaders.engines.dali.layout import DaliLayout, DaliViews
from loaders.engines.dali.memory import engine_bytes, sample_memory
from loaders.plan import stage_views

PRETRAIN = stage_views.pretrain(size_px=224)
PICTURE_PX = 240 * 320


def test_a_sample_of_the_kernel_is_its_frames_and_its_views() -> None:
    kernel = sample_memory(PRETRAIN, "float16", DaliViews.KERNEL, PICTURE_PX)
    assert kernel.between == 0
    assert kernel.pictures + kernel.views <= 70e6
    operators = sample_memory(PRETRAIN, "float32", DaliViews.OPERATORS, PICTURE_PX)
    assert operators.between == 2 * operators.views  # what an operator reads, and what it writes
    half = sample_memory(PRETRAIN, "float16", DaliViews.OPERATORS, PICTURE_PX)
    assert (half.views, half.between) == (operators.views / 2, operators.between)


@pytest.mark.parametrize("views", DaliViews)
def test_every_knob_counts(views: DaliViews) -> None:
    def predicted(**changes: float) -> float:
        numbers = {"num_pipelines": 2, "depth": 2, "picture_px": PICTURE_PX, "batch_size": 4}
        numbers |= {"num_decoding_threads": 8} | changes
        layout = DaliLayout(
            num_pipelines=int(numbers.pop("num_pipelines")),
            depth=int(numbers.pop("depth")),
            views=views,
        )
        return engine_bytes(PRETRAIN, dtype="float16", layout=layout, **numbers)  # type: ignore[arg-type]

    usual = predicted()
    for knob in ("num_pipelines", "depth", "picture_px", "batch_size", "num_decoding_threads"):
        assert predicted(**{knob: 1}) < usual


def test_the_kernel_takes_less_in_any_layout() -> None:
    for num_pipelines in (1, 2, 4):
        for depth in (1, 2):
            kernel, operators = (
                engine_bytes(
                    PRETRAIN,
                    dtype="float16",
                    layout=DaliLayout(num_pipelines=num_pipelines, depth=depth, views=views),
                    picture_px=PICTURE_PX,
                    batch_size=8,
                    num_decoding_threads=0,
                )
                for views in (DaliViews.KERNEL, DaliViews.OPERATORS)
            )
            assert kernel < operators
