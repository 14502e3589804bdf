"""How answers of drivers are understood: of an H200, an RTX 4090, and a card without NVDEC.

The drivers are libraries that are compiled here (see `cards`).
"""

import ctypes
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import open_loader
from loaders.engines import choice
from loaders.engines.choice import why_not_dali
from loaders.engines.dali import nvdec
from loaders.engines.dali.engine import open_dali_engine
from loaders.engines.dali.layout import Axis, DaliLayout, DaliViews, usual_layout, variations
from loaders.engines.dali.meter import Meter, Nvml
from loaders.engines.dali.nvdec import NvdecError, check_decodable, decoder_caps
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest
from tests.loaders.columns import with_column
from tests.loaders.engines.dali.cards import (
    H200,
    NO_NVDEC,
    RTX_4090,
    Card,
    Driver,
    build_driver,
    header_values,
    use_driver,
)

GPU = torch.device("cuda:0")
H264, HEVC, VP9 = frozenset({"h264"}), frozenset({"hevc"}), frozenset({"vp9"})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(built: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    use_driver(built, monkeypatch)
    why_not_dali.cache_clear()
    yield built
    decoder_caps.cache_clear()
    why_not_dali.cache_clear()


def test_our_struct_and_numbers_are_those_of_nvidias_header(tmp_path: Path) -> None:
    ours = {
        "eCodecType": "codec",
        "eChromaFormat": "chroma",
        "nBitDepthMinus8": "bits_minus_8",
        "bIsSupported": "is_supported",
        "nNumNVDECs": "num_decoders",
        "nOutputFormatMask": "output_formats",
        "nMaxWidth": "max_width",
        "nMaxHeight": "max_height",
        "nMaxMBCount": "max_macroblocks",
        "nMinWidth": "min_width",
        "nMinHeight": "min_height",
    }
    codecs = {
        "mpeg4": "MPEG4",
        "h264": "H264",
        "mjpeg": "JPEG",
        "hevc": "HEVC",
        "vp8": "VP8",
        "vp9": "VP9",
        "av1": "AV1",
    }
    assert codecs.keys() == nvdec._CODECS.keys() == nvdec.GPU_CODECS | {"mjpeg"}
    asked = {
        "sizeof(CUVIDDECODECAPS)": ctypes.sizeof(nvdec._Caps),
        **{
            f"offsetof(CUVIDDECODECAPS, {theirs})": getattr(nvdec._Caps, name).offset
            for theirs, name in ours.items()
        },
        **{f"cudaVideoCodec_{theirs}": nvdec._CODECS[name] for name, theirs in codecs.items()},
        **{f"cudaVideoChromaFormat_{name}": n for n, name in enumerate(("Monochrome", "420"))},
        **{f"cudaVideoChromaFormat_{name}": n for n, name in enumerate(("422", "444"), start=2)},
        "1 << cudaVideoSurfaceFormat_NV12": nvdec._NV12,
    }
    assert header_values(tmp_path, list(asked)) == list(asked.values())


@pytest.mark.parametrize(("card", "num_decoders"), [(H200, 7), (RTX_4090, 1)])
def test_the_answer_is_read_as_the_driver_gave_it(
    driver: Driver, card: Card, num_decoders: int
) -> None:
    driver.insert(card)
    caps = decoder_caps(GPU, "h264")
    assert (caps.is_supported, caps.num_decoders) == (True, num_decoders)
    assert (caps.min_size, caps.max_size) == ((16, 48), (4096, 4096))  # (height, width)
    assert caps.max_macroblocks == 65536
    assert not decoder_caps(GPU, "h264", "yuv420p10le").is_supported
    assert decoder_caps(GPU, "hevc", "yuv420p10le").is_supported
    # It is decoded, but not to a picture that DALI takes.
    assert not decoder_caps(GPU, "hevc", "yuv444p").is_supported
    assert driver.questions() == [(4, 1, 8), (4, 1, 10), (8, 1, 10), (8, 3, 8)]
    assert decoder_caps(GPU, "h264") == caps
    assert len(driver.questions()) == 4  # each was asked once


@pytest.mark.parametrize(
    ("card", "codecs", "expected"),
    [
        (H200, H264, ""),
        (H200, HEVC | VP9, ""),
        (RTX_4090, H264, ""),
        (RTX_4090, H264 | {"mjpeg"}, "DALI does not decode mjpeg on a GPU"),
        (NO_NVDEC, H264, "this GPU's decoder takes no h264"),
        (NO_NVDEC, H264 | VP9, "this GPU's decoder takes no h264, vp9"),
    ],
)
def test_what_auto_says(driver: Driver, card: Card, codecs: frozenset[str], expected: str) -> None:
    driver.insert(card)
    assert why_not_dali("cuda:0", codecs) == expected
    assert why_not_dali("cpu", codecs) == "the device is cpu"


@pytest.mark.parametrize("card", [H200, RTX_4090], ids=lambda card: card.name)
def test_auto_measures_once_for_each_card(
    driver: Driver,
    card: Card,
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path_factory.mktemp("cache")))
    speeds = {"dali": 3.0, "fused": 1.0}
    with open_loader(numbered_shards, tiny_views, device="cpu", engine="reference") as loader:
        planner = loader.planner
    for inserted, expected in ((card, "dali"), (NO_NVDEC, "fused"), (card, "dali")):
        driver.insert(inserted)
        decoder_caps.cache_clear()
        why_not_dali.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, card=inserted: card.name)
        asked: list[str] = []

        def measure(name: str, asked: list[str] = asked) -> float:
            asked.append(name)
            return speeds[name]

        found = choice.choose_engine("auto", planner, "float32", GPU, 2, None, [], measure)
        assert found.name == expected
        assert asked in ([], ["dali", "fused"])
        assert choice._machine(GPU) | {"gpu": inserted.name, "driver": "580.65.06"} == (
            choice._machine(GPU)
        )
    assert asked == []  # the third time it was known


def test_a_card_without_decoder_is_an_error_with_advice(
    driver: Driver, numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    driver.insert(NO_NVDEC)
    with pytest.raises(InputError, match=r"11 videos in h264 yuv420p.*not decoded.*fused"):
        open_dali_engine(
            numbered_shards,
            np.arange(11),
            tiny_views,
            dtype="float32",
            device=GPU,
            batch_size=4,
            num_workers=1,
            layout=None,
        )


def test_sizes_and_formats_that_a_card_refuses_are_named(
    driver: Driver, numbered_shards: Manifest
) -> None:
    driver.insert(H200)
    rows, caps = np.arange(11), partial(decoder_caps, GPU)
    check_decodable(numbered_shards, rows, caps)
    hevc = with_column(numbered_shards, "codec", ["hevc"] * 11)
    message = r"11 videos in hevc yuv420p, e\.g\. of 1\d\dx1?\d\d px.*144x144 to 8192x8192 px"
    with pytest.raises(InputError, match=message):
        check_decodable(hevc, rows, caps)
    deep = with_column(numbered_shards, "pixel_format", ["yuv420p10le"] * 11)
    with pytest.raises(InputError, match=r"11 videos in h264 yuv420p10le.*not decoded"):
        check_decodable(deep, rows, caps)


def test_a_driver_that_fails_says_so(driver: Driver) -> None:
    driver.insert(H200)
    driver.fail(999)
    with pytest.raises(NvdecError, match="cuvidGetDecoderCaps failed with CUDA error 999"):
        decoder_caps(GPU, "h264")
    assert why_not_dali("cuda:0", H264) == "cuvidGetDecoderCaps failed with CUDA error 999"
    with pytest.raises(OSError, match="nvmlInit_v2 failed with NVML error 999"):
        Nvml(GPU)


def test_without_the_library_auto_names_it(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loaders.engines.dali.nvdec._LIBRARY", "libnvcuvid.so.none")
    assert "libnvcuvid.so.none is missing" in why_not_dali("cuda:0", H264)


@pytest.mark.parametrize(
    ("card", "usual", "threads", "pipelines"),
    [
        (H200, 14, [7, 14, 21], [(1, 28), (2, 14), (4, 7)]),
        (RTX_4090, 2, [1, 2, 3], [(1, 4), (2, 2), (4, 1)]),
    ],
    ids=["H200", "RTX 4090"],
)
def test_the_layouts_that_are_tried(
    driver: Driver,
    card: Card,
    usual: int,
    threads: list[int],
    pipelines: list[tuple[int, int]],
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
) -> None:
    driver.insert(card)
    engine = open_dali_engine(
        numbered_shards,
        np.arange(11),
        tiny_views,
        dtype="float16",
        device=GPU,
        batch_size=40,
        num_workers=1,  # readers; it has nothing to do with the layout
        layout=DaliViews.OPERATORS,
    )
    assert engine.num_decoders == card.num_decoders
    start = usual_layout(engine.num_decoders, engine.batch_size)
    assert engine.layout == start == DaliLayout(num_pipelines=2, depth=2, num_threads=usual)
    tried = {axis: variations(axis, start, engine.num_decoders, 40) for axis in Axis}
    assert [layout.num_threads for layout in tried[Axis.THREADS]] == threads
    found = [(layout.num_pipelines, layout.num_threads) for layout in tried[Axis.PIPELINES]]
    assert found == pipelines
    assert [layout.depth for layout in tried[Axis.DEPTH]] == [1, 2]


def test_the_meter_reads_nvml(driver: Driver) -> None:
    driver.insert(H200)
    nvml = Nvml(GPU)
    assert nvml.driver() == "580.65.06"
    expected = {"decoder_percent": 83.0, "sm_percent": 41.0, "memory_mb": 5 * 1024.0}
    assert nvml.sample() == expected
    with Meter(GPU) as meter:
        while len(meter._samples) < 2:
            time.sleep(0.01)
    assert meter.mean("decoder_percent") == 83
    assert meter.figures["memory_mb_max"] == 5120
    with Meter(torch.device("cpu")) as none:
        pass
    assert none.figures == {}
    assert none.mean("decoder_percent") is None


def test_a_device_that_nvml_does_not_know_is_a_problem_and_no_failure(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.engines.dali.meter._uuid", lambda _: "GPU-other")
    driver.insert(H200)
    with Meter(GPU) as meter:
        meter._thread.join()
    assert meter.figures == {"meter_problem": "nvmlDeviceGetHandleByUUID failed with NVML error 6"}
