"""Which engine is chosen, and which reason is given."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import DaliLayout, DaliViews, LoaderError, Skip, TryLayouts, open_loader
from loaders.engines import choice as engines
from loaders.engines import speeds
from loaders.engines.choice import EngineChoice, choose_engine, why_not_dali
from loaders.engines.dali.nvdec import DecoderCaps, NvdecError, decoder_caps
from loaders.engines.engine import EngineName
from loaders.placement import Making
from loaders.plan.order import Order
from loaders.plan.planner import Planner
from loaders.plan.stage_views import finetune
from loaders.plan.views import ViewSpec
from loaders.producer import Producer
from shards.errors import InputError
from shards.format.manifest import Manifest
from tests.tb.damage import damaged_copy

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
# The answer of an H100 for H.264, 4:2:0, 8 bit.
H264 = DecoderCaps(
    is_supported=True,
    num_decoders=7,
    min_size=(64, 48),
    max_size=(4096, 4096),
    max_macroblocks=65536,
)
NOTHING = replace(H264, is_supported=False)
Measure = Callable[[EngineName], float]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what is kept."""
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path))
    return tmp_path


def _refused(_: EngineName) -> float:
    raise AssertionError("it must not measure")


def _choose(
    manifest: Manifest,
    engine: str,
    measure: Measure,
    device: torch.device = CPU,
    *,
    size_px: int = 112,
    layout: DaliLayout | None = None,
    not_for_dali: Sequence[str] = (),
) -> EngineChoice:
    planner = Planner(
        manifest=manifest,
        rows=np.arange(len(manifest)),
        spec=finetune(size_px=size_px),
        batch_size=4,
        order=Order.MANIFEST,
        seed=0,
        rank=0,
        world_size=1,
    )
    return choose_engine(engine, planner, "float32", device, 2, layout, not_for_dali, measure)


@pytest.mark.gpu
def test_a_gpu_that_decodes_says_so(numbered_shards: Manifest, cache: Path) -> None:
    caps = decoder_caps(torch.device("cuda"), "h264")
    assert caps.num_decoders >= 1
    assert caps.takes(256, 352)
    speeds = {"dali": 2.0, "fused": 1.0}
    gpu = torch.device("cuda")
    assert _choose(numbered_shards, "auto", lambda name: speeds[name], gpu).name == "dali"
    assert _choose(numbered_shards, "auto", _refused).name == "fused"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_is_fused_without_a_gpu_and_says_why_once(
    numbered_shards: Manifest, tiny_views: ViewSpec, caplog: pytest.LogCaptureFixture, cache: Path
) -> None:
    engines.log_choice.cache_clear()
    caplog.set_level(logging.INFO, "loaders")
    for rank in (1, 0, 0):
        opened = open_loader(numbered_shards, tiny_views, rank=rank, world_size=2)
        assert opened.choice == EngineChoice(name=EngineName.FUSED, why="there is no CUDA device")
    assert caplog.messages == ["loader: engine fused (there is no CUDA device)"]
    named = open_loader(numbered_shards, tiny_views, engine="fused")
    assert named.choice.why == "it was asked for"
    assert len(caplog.messages) == 1
    assert list(cache.iterdir()) == []  # nothing was measured


def test_an_unknown_engine_is_refused(numbered_shards: Manifest) -> None:
    with pytest.raises(InputError, match="engine is 'nvdec': choose one of auto, dali, fused"):
        _choose(numbered_shards, "nvdec", _refused)


@pytest.mark.parametrize(
    ("installed", "caps", "expected"),
    [
        (True, H264, ""),
        (True, NOTHING, "this GPU's decoder takes no h264"),
        (True, NvdecError("libnvcuvid.so.1 is missing"), "libnvcuvid.so.1 is missing"),
        (False, H264, "DALI is not installed: pip install 'timebalance[dali]'"),
    ],
    ids=["usable", "no H.264", "no library", "no DALI"],
)
def test_what_stands_against_dali_on_a_gpu(
    installed: bool,
    caps: DecoderCaps | NvdecError,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(*_: object) -> DecoderCaps:
        if isinstance(caps, NvdecError):
            raise caps
        return caps

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engines, "dali_is_installed", lambda: installed)
    monkeypatch.setattr(engines, "decoder_caps", told)
    obstacle, h264 = why_not_dali.__wrapped__, frozenset({"h264"})
    assert obstacle("auto", h264) == obstacle("cuda:0", h264) == expected
    assert obstacle("cpu", h264) == "the device is cpu"
    if installed:
        mixed = h264 | {"mjpeg"}
        assert obstacle("cuda:0", mixed) == "DALI does not decode mjpeg on a GPU"


@pytest.fixture
def gpu_path(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Nothing stands against dali; the machine is made up."""
    monkeypatch.setattr(engines, "why_not_dali", lambda *_: "")
    monkeypatch.setattr(engines, "_machine", lambda _: {"gpu": "H100"})


@pytest.mark.usefixtures("gpu_path")
def test_auto_follows_the_measurement_of_each_stage(numbered_shards: Manifest) -> None:
    asked: list[tuple[int, str]] = []

    def measured(size_px: int, speeds: dict[str, float]) -> EngineChoice:
        def measure(name: EngineName) -> float:
            asked.append((size_px, name))
            return speeds[name]

        return _choose(numbered_shards, "auto", measure, GPU, size_px=size_px)

    assert measured(224, {"dali": 190.0, "fused": 60.0}) == EngineChoice(
        name=EngineName.DALI, why="measured here, in videos/s: dali 190.0, fused 60.0"
    )
    assert measured(112, {"dali": 300.0, "fused": 450.0}).name == "fused"
    # Somewhat faster is not enough.
    assert measured(160, {"dali": 190.0, "fused": 100.0}) == EngineChoice(
        name=EngineName.FUSED,
        why="measured here, in videos/s: dali 190.0, fused 100.0; dali must be 2 times as fast, "
        "as training is slower beside it",
    )
    # They are known now: other speeds change nothing.
    assert measured(224, {"dali": 1.0, "fused": 2.0}).name == "dali"
    assert measured(112, {"dali": 2.0, "fused": 1.0}).name == "fused"
    assert asked == [(size_px, name) for size_px in (224, 112, 160) for name in ("dali", "fused")]


@pytest.mark.usefixtures("gpu_path")
@pytest.mark.parametrize("error", [RuntimeError("nvdec\nfailed"), InputError("too large")])
def test_a_dali_that_fails_is_named_and_tried_again(
    numbered_shards: Manifest, error: Exception
) -> None:
    def failing(name: EngineName) -> float:
        raise error

    choice = _choose(numbered_shards, "auto", failing, GPU)
    assert choice.name == "fused"
    assert choice.why.startswith("dali was tried and failed: ")
    assert "\n" not in choice.why
    speeds = {"dali": 2.0, "fused": 1.0}
    assert _choose(numbered_shards, "auto", lambda name: speeds[name], GPU).name == "dali"


@pytest.mark.usefixtures("gpu_path")
def test_a_layout_asks_for_dali(numbered_shards: Manifest) -> None:
    layout = DaliLayout(num_pipelines=1, depth=1)
    choice = _choose(numbered_shards, "auto", _refused, GPU, layout=layout)
    assert choice == EngineChoice(name=EngineName.DALI, why="only dali has a layout")


@pytest.mark.usefixtures("gpu_path")
def test_an_argument_that_dali_does_not_take_asks_for_fused(numbered_shards: Manifest) -> None:
    """It does not matter whether a measured choice of dali was kept."""
    choice = _choose(numbered_shards, "auto", _refused, GPU, not_for_dali=["lookahead_mb"])
    assert choice == EngineChoice(name=EngineName.FUSED, why="dali has no lookahead_mb")


@pytest.mark.usefixtures("gpu_path")
def test_a_loader_measures_itself_once(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
) -> None:
    """With two engines of the CPU in the place of dali and fused."""
    monkeypatch.setattr(engines, "_MEASURED", (EngineName.REFERENCE, EngineName.FUSED))
    monkeypatch.setattr(speeds, "_SECONDS", 0.0)
    monkeypatch.setattr(speeds, "_WARM_BATCHES", 1)
    opened: list[str] = []
    real = Making.open

    def recorded(making: Making, planner: Planner, engine: EngineName) -> Producer:
        opened.append(engine)
        return real(making, planner, engine)

    monkeypatch.setattr(Making, "open", recorded)
    views = {"batch_size": 4, "device": "cpu"}
    first = open_loader(numbered_shards, tiny_views, **views)
    assert opened == ["reference", "fused", first.choice.name]
    (record,) = (cache / "engine-speeds").glob("*.json")
    content = json.loads(record.read_text())
    measured = content["videos_per_s"]
    is_twice_as_fast = measured["reference"] >= 2 * measured["fused"]
    assert first.choice.name == ("reference" if is_twice_as_fast else "fused")
    assert content["key"]["stage"] == tiny_views.name
    assert content["key"]["size_px"] == tiny_views.size_px

    content["videos_per_s"] = {"reference": 2.0, "fused": 1.0}
    record.write_text(json.dumps(content))
    again = open_loader(numbered_shards, tiny_views, **views, seed=1)
    assert opened[3:] == ["reference"]
    assert again.choice.why == "measured here, in videos/s: reference 2.0, fused 1.0"
    assert open_loader(numbered_shards, tiny_views, **views, size_px=32).choice
    assert opened[4:6] == ["reference", "fused"]  # another size is another measurement


@pytest.mark.usefixtures("gpu_path")
def test_a_bad_video_decides_nothing_and_is_listed_by_the_loader_alone(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(engines, "_MEASURED", (EngineName.REFERENCE, EngineName.FUSED))
    monkeypatch.setattr(speeds, "_SECONDS", 0.0)
    damaged = damaged_copy(numbered_shards, tmp_path / "shards", numbered_shards.keys)
    bad_list = tmp_path / "bad.jsonl"
    with open_loader(
        damaged, tiny_views, on_error=Skip(max_bad_share=0.5, bad_list=bad_list), device="cpu"
    ) as loader:
        assert loader.choice.why.startswith("measured here")
        assert not bad_list.exists()
        with pytest.raises(LoaderError, match="bad videos in epoch 0"):
            list(loader.batches(0))
    assert bad_list.exists()


def test_dali_without_dali_names_the_extra(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "dali_is_installed", lambda: False)
    with pytest.raises(InputError, match=r"timebalance\[dali\]"):
        open_loader(numbered_shards, tiny_views, engine="dali", device="cpu")


@pytest.mark.parametrize("views", ["operators", "kernel"])
def test_a_usual_layout_with_given_views(
    numbered_shards: Manifest, tiny_views: ViewSpec, views: str
) -> None:
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("triton")
    options = {"engine": "dali", "device": "cpu"}
    with (
        open_loader(numbered_shards, tiny_views, **options) as usual,
        open_loader(numbered_shards, tiny_views, **options, layout=views) as loader,
    ):
        assert usual.engine.layout.views == "operators"
        assert loader.engine.layout == replace(usual.engine.layout, views=views)


def test_unknown_views_are_refused(numbered_shards: Manifest, tiny_views: ViewSpec) -> None:
    with pytest.raises(InputError, match="layout is 'fast': choose one of kernel, operators"):
        open_loader(numbered_shards, tiny_views, engine="dali", device="cpu", layout="fast")
    with pytest.raises(InputError, match="views is 'fast': choose one of kernel, operators"):
        TryLayouts(views="fast")


@pytest.mark.parametrize("engine", ["fused", "reference"])
@pytest.mark.parametrize(
    "layout",
    [DaliLayout(num_pipelines=1, depth=1), TryLayouts(), DaliViews.KERNEL],
    ids=["layout", "try", "views"],
)
def test_a_layout_is_refused_off_dali(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    engine: str,
    layout: DaliLayout | TryLayouts | DaliViews,
) -> None:
    with pytest.raises(InputError, match=f"layout is for the engine dali, and this is {engine}"):
        open_loader(numbered_shards, tiny_views, engine=engine, layout=layout)


def test_memory_of_a_gpu_is_refused_on_a_cpu(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    layout = TryLayouts(gpu_memory_mb=1000)
    with pytest.raises(InputError, match="gpu_memory_mb is for GPUs, and the device is cpu"):
        open_loader(numbered_shards, tiny_views, engine="dali", layout=layout, device="cpu")


@pytest.mark.parametrize(
    "without",
    [
        'sys.modules["numba"] = sys.modules["llvmlite"] = None',
        pytest.param(
            "import numba.core.cgutils;"
            " del numba.core.cgutils.pack_array, numba.extending.intrinsic",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "from numba.core.caching import CacheImpl; CacheImpl._locator_classes = []",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_only_the_fused_engine_needs_numba(numbered_shards: Manifest, without: str) -> None:
    command = [sys.executable, "-c", _WITHOUT_NUMBA.format(without), str(numbered_shards.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shape, error, problems = done.stdout.splitlines()
    assert shape == "(8, 8, 32, 32)"
    assert error.startswith("engine fused cannot be used (")
    assert "or choose the engine reference" in error
    assert problems == "[]"


_WITHOUT_NUMBA = """
import sys
{}
from loaders import DaliLayout, TryLayouts, open_loader
from shards import InputError, verify
with open_loader(sys.argv[1], "finetune", size_px=32, engine="reference", device="cpu") as loader:
    clip = next(iter(loader)).views["clip"]
print((len(clip), *clip.shape[2:]))
try:
    open_loader(sys.argv[1], "finetune", engine="fused", device="cpu")
except InputError as error:
    print(error)
print(verify(sys.argv[1], decode=True))
"""
