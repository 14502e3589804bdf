"""What is decided before DALI runs: which engine, whether NVDEC takes the videos, which layout."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders import loader as batch
from loaders.engines import choice as engines
from loaders.engines.choice import auto_engine, engine_name
from loaders.engines.dali.nvdec import DecoderCaps, NvdecError, check_decodable, decoder_caps
from loaders.engines.dali.tuning import Trial, Tuning, candidates, choose
from loaders.loader import open_loader
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest

# As an H100 answers for H.264, 4:2:0, 8 bit.
H264 = DecoderCaps(
    is_supported=True,
    num_engines=7,
    min_size=(64, 48),
    max_size=(4096, 4096),
    max_macroblocks=65536,
)
NOTHING = replace(H264, is_supported=False)


@pytest.mark.parametrize(
    ("height", "width", "taken"),
    [
        (64, 48, True),
        (63, 48, False),
        (64, 47, False),
        (4096, 4096, True),
        (4097, 64, False),
        (64, 4112, False),
    ],
)
def test_sizes_at_the_limits(height: int, width: int, taken: bool) -> None:
    assert H264.takes(height, width) == taken
    assert not NOTHING.takes(height, width)


def test_too_many_macroblocks_are_refused() -> None:
    assert not replace(H264, max_macroblocks=65535).takes(4096, 4096)


def test_videos_that_the_gpu_takes_pass(numbered_shards: Manifest) -> None:
    rows = np.arange(len(numbered_shards))
    check_decodable(numbered_shards, rows, {"h264": "yuv420p"}, lambda *_: H264)


def test_a_refused_format_names_the_recipe(numbered_shards: Manifest) -> None:
    rows = np.arange(len(numbered_shards))
    asked = []

    def caps_of(codec: str, pixel_format: str) -> DecoderCaps:
        asked.append((codec, pixel_format))
        return NOTHING

    expected = r"11 videos in h264 yuv444p, .*not decoded.*tb shard \.\.\. --recipe h264.*fused"
    with pytest.raises(InputError, match=expected):
        check_decodable(numbered_shards, rows, {"h264": "yuv444p"}, caps_of)
    assert asked == [("h264", "yuv444p")]


def test_only_the_videos_that_are_served_are_judged(numbered_shards: Manifest) -> None:
    high = np.flatnonzero(numbered_shards.heights == 128)
    low = np.flatnonzero(numbered_shards.heights == 96)
    narrow = replace(H264, max_size=(100, 200))
    check_decodable(numbered_shards, low, {}, lambda *_: narrow)
    message = rf"{len(high)} videos in h264 yuv420p, e\.g\. of 96x128 px, .*48x64 to 200x100 px"
    with pytest.raises(InputError, match=message):
        check_decodable(numbered_shards, np.arange(11), {}, lambda *_: narrow)


def test_each_codec_is_asked_for(numbered_shards: Manifest) -> None:
    codecs = pa.array(["vp9"] * 4 + ["h264"] * 7)
    column = numbered_shards.table.schema.get_field_index("codec")
    table = numbered_shards.table.set_column(column, "codec", codecs)
    mixed = replace(numbered_shards, table=table)
    caps = {"h264": H264, "vp9": NOTHING}
    with pytest.raises(InputError, match="4 videos in vp9 yuv420p"):
        check_decodable(mixed, np.arange(11), {}, lambda codec, _: caps[codec])


def test_formats_without_a_name_at_nvdec_are_not_decoded() -> None:
    cuda = torch.device("cuda")
    assert not decoder_caps(cuda, "ffv1").is_supported
    assert not decoder_caps(cuda, "h264", "bgr0").is_supported


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nvdec_cannot_be_asked() -> None:
    with pytest.raises(NvdecError, match=r"\w"):
        decoder_caps(torch.device("cuda"), "h264")


@pytest.mark.gpu
def test_a_gpu_that_decodes_says_so() -> None:
    caps = decoder_caps(torch.device("cuda"), "h264")
    assert caps.num_engines >= 1
    assert caps.takes(256, 352)
    assert engine_name("auto") == "dali"
    assert engine_name("auto", "cpu") == "fused"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_is_fused_without_a_gpu_and_says_why_once(
    numbered_shards: Manifest, tiny_views: ViewSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    assert engine_name("auto") == engine_name("auto", "cpu") == "fused"
    batch._say_why.cache_clear()
    for rank in (1, 0, 0):
        open_loader(numbered_shards, tiny_views, rank=rank, world_size=2)
    assert capsys.readouterr().err == "loader: engine fused (there is no CUDA device)\n"
    open_loader(numbered_shards, tiny_views, engine="fused")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("installed", "caps", "expected"),
    [
        (True, H264, ("dali", "this GPU decodes video")),
        (True, NOTHING, ("fused", "its decoder takes no H.264")),
        (True, NvdecError("libnvcuvid.so.1 is missing"), ("fused", "libnvcuvid.so.1 is missing")),
        (False, H264, ("fused", "DALI is not installed: pip install 'timebalance[dali]'")),
    ],
    ids=["usable", "no H.264", "no library", "no DALI"],
)
def test_auto_on_a_gpu(
    installed: bool,
    caps: DecoderCaps | NvdecError,
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(*_: object) -> DecoderCaps:
        if isinstance(caps, NvdecError):
            raise caps
        return caps

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engines, "dali_is_installed", lambda: installed)
    monkeypatch.setattr(engines, "decoder_caps", told)
    choice = auto_engine.__wrapped__
    assert choice("auto") == choice("cuda:0") == expected
    assert choice("cpu") == ("fused", "the device is cpu")


def test_dali_without_dali_names_the_extra(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "dali_is_installed", lambda: False)
    with pytest.raises(InputError, match=r"timebalance\[dali\]"):
        open_loader(numbered_shards, tiny_views, engine="dali", device="cpu")


def test_layouts_worth_trying() -> None:
    for num_engines in range(1, 9):
        layouts = candidates(num_engines)
        assert len(set(layouts)) == len(layouts)
        sizes = [layout.num_batches for layout in layouts]
        assert sizes == sorted(sizes)
        assert sizes[0] == 1
        assert {layout.num_pipelines for layout in layouts} >= {1, 2, num_engines}


@given(
    st.lists(st.tuples(st.floats(1, 1e4), st.floats(0, 1e5)), min_size=1, max_size=8),
    st.one_of(st.none(), st.floats(0, 1e5)),
)
def test_the_choice_is_the_smallest_of_the_fast_ones_that_fit(
    measured: list[tuple[float, float]], cap: float | None
) -> None:
    trials = [
        Trial(tuning=Tuning(num_pipelines=n, depth=1), videos_per_s=speed, gpu_memory_mb=memory)
        for n, (speed, memory) in enumerate(measured, start=1)
    ]
    fitting = [trial for trial in trials if cap is None or trial.gpu_memory_mb <= cap]
    if not fitting:
        with pytest.raises(InputError, match="gpu_memory_mb"):
            choose(trials, cap)
        return
    chosen = trials[choose(trials, cap).num_pipelines - 1]
    assert chosen in fitting
    for trial in fitting:
        assert chosen.videos_per_s >= 0.95 * trial.videos_per_s - 1e-9
        if trial.tuning < chosen.tuning:
            assert trial.videos_per_s < max(other.videos_per_s for other in fitting)


def test_impossible_layouts_are_named() -> None:
    with pytest.raises(InputError, match="num_pipelines=0"):
        Tuning(num_pipelines=0, depth=1)


_MARKED = """
import pytest
@pytest.mark.gpu
def test_it():
    pass
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("required", "outcome"), [("0", "1 skipped"), ("1", "1 error")])
def test_gpu_tests_cannot_be_skipped_where_a_gpu_is_required(
    tmp_path: Path, required: str, outcome: str
) -> None:
    conftest = Path(__file__).resolve().parents[1] / "conftest.py"
    (tmp_path / "conftest.py").write_text(conftest.read_text())
    (tmp_path / "test_marked.py").write_text(_MARKED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a GPU\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "TB_REQUIRE_GPU": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout, done.stdout
    assert (done.returncode == 0) == (required == "0")
