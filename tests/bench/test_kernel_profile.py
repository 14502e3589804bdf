"""The profile leaves out the stages of the kernel that it names, and writes its table."""

import json
import math
from pathlib import Path

import pytest

from bench import kernel_profile
from loaders.engines.buffers import BufferPool
from loaders.engines.fused import kernel
from loaders.plan.stage_views import view_spec


def test_every_part_that_is_left_out_is_a_part_of_the_kernel() -> None:
    parts = {name for changes in kernel_profile.STAGES.values() for name in changes}
    assert parts <= vars(kernel).keys()
    with pytest.raises(AttributeError, match="the kernel has no resample"):
        kernel_profile.kernel_with({"resample": print})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_without_its_stores_the_kernel_leaves_the_batch_alone(dtype: str) -> None:
    """Rows of 64 pixels are whole cache lines, so every value is streamed."""
    plan = kernel_profile._plan(view_spec("student", 64), 1)
    (out,) = BufferPool(1).take([(1, 8, 64, 64, 3)], dtype)
    for changes, is_written in (({}, True), (kernel_profile.STAGES["stores"], False)):
        out[:] = 2
        kernel_profile._cpu_s(kernel_profile.kernel_with(changes), plan, [out])
        assert (out != 2).all() == is_written
        assert (out == 2).all() != is_written


@pytest.mark.slow
def test_the_profile_of_every_stage_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it stays in Numba's cache, from which a loader would take it."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "numba"))
    path = tmp_path / "profile.json"
    options = ["--views", "student", "--sizes", "64", "--videos", "2", "--rounds", "1"]
    kernel_profile.main([*options, "--json", str(path)])
    (found,) = json.loads(path.read_text())["profiles"]
    assert (found["views"], found["size_px"]) == ("student", 64)
    assert found["shares"].keys() == kernel_profile.STAGES.keys()
    # One round of a busy machine may give any share; a part of the kernel still takes some time.
    assert all(math.isfinite(share) for share in found["shares"].values())
    assert found["rest"] > 0
    assert found["ms_per_video"] > 0
    assert not list(tmp_path.glob("numba/**/kernel.*"))
