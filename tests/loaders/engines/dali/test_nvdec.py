"""The formats that NVDEC takes, and the videos that are refused before the first batch."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from loaders.engines.dali.nvdec import DecoderCaps, NvdecError, check_decodable, decoder_caps
from shards.errors import InputError
from shards.format.manifest import Manifest
from tests.loaders.columns import with_column

# The answer of an H100 for H.264, 4:2:0, 8 bit.
H264 = DecoderCaps(
    is_supported=True,
    num_decoders=7,
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
    check_decodable(numbered_shards, rows, lambda *_: H264)


def test_a_refused_format_names_the_recipe(numbered_shards: Manifest) -> None:
    rows = np.arange(len(numbered_shards))
    asked = []

    def caps_of(codec: str, pixel_format: str) -> DecoderCaps:
        asked.append((codec, pixel_format))
        return NOTHING

    expected = r"11 videos in h264 yuv444p, .*not decoded.*tb shard \.\.\. --recipe h264.*fused"
    with pytest.raises(InputError, match=expected):
        check_decodable(
            with_column(numbered_shards, "pixel_format", ["yuv444p"] * 11), rows, caps_of
        )
    assert asked == [("h264", "yuv444p")]


def test_only_the_videos_that_are_served_are_judged(numbered_shards: Manifest) -> None:
    high = np.flatnonzero(numbered_shards.heights == 128)
    low = np.flatnonzero(numbered_shards.heights == 96)
    narrow = replace(H264, max_size=(100, 200))
    check_decodable(numbered_shards, low, lambda *_: narrow)
    message = rf"{len(high)} videos in h264 yuv420p, e\.g\. of 96x128 px, .*48x64 to 200x100 px"
    with pytest.raises(InputError, match=message):
        check_decodable(numbered_shards, np.arange(11), lambda *_: narrow)


def test_each_codec_is_asked_for(numbered_shards: Manifest) -> None:
    mixed = with_column(numbered_shards, "codec", ["vp9"] * 4 + ["h264"] * 7)
    caps = {"h264": H264, "vp9": NOTHING}
    with pytest.raises(InputError, match="4 videos in vp9 yuv420p"):
        check_decodable(mixed, np.arange(11), lambda codec, _: caps[codec])


def test_formats_without_a_name_at_nvdec_are_not_decoded() -> None:
    cuda = torch.device("cuda")
    assert not decoder_caps(cuda, "ffv1").is_supported
    assert not decoder_caps(cuda, "h264", "bgr0").is_supported


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nvdec_cannot_be_asked() -> None:
    with pytest.raises(NvdecError, match=r"\w"):
        decoder_caps(torch.device("cuda"), "h264")


def test_each_pixel_format_of_a_codec_is_asked_for(numbered_shards: Manifest) -> None:
    mixed = with_column(numbered_shards, "pixel_format", ["yuv420p"] * 9 + ["yuv444p"] * 2)
    caps = {"yuv420p": H264, "yuv444p": NOTHING}
    with pytest.raises(InputError, match="2 videos in h264 yuv444p"):
        check_decodable(mixed, np.arange(11), lambda _, pixel_format: caps[pixel_format])
    check_decodable(mixed, np.arange(9), lambda _, pixel_format: caps[pixel_format])


def test_a_codec_that_dali_refuses_is_refused_whatever_the_driver_takes(
    numbered_shards: Manifest,
) -> None:
    mixed = with_column(numbered_shards, "codec", ["mjpeg"] * 3 + ["h264"] * 8)
    message = r"3 videos in mjpeg yuv420p, which DALI does not decode on a GPU .*--recipe h264"
    with pytest.raises(InputError, match=message):
        check_decodable(mixed, np.arange(11), lambda *_: H264)
    check_decodable(mixed, np.arange(3, 11), lambda *_: H264)


def test_sizes_that_need_new_decoders_are_named(
    numbered_shards: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    rows = np.arange(11)
    check_decodable(numbered_shards, rows, lambda *_: H264)
    assert not caplog.records
    check_decodable(
        with_column(numbered_shards, "height", [96] * 9 + [90, 120]), rows, lambda *_: H264
    )
    assert "2 videos, e.g. of" in caplog.text
    assert "multiples of 16" in caplog.text
    assert "50 to 70 ms a video" in caplog.text


def test_libraries_that_the_graph_does_not_use_may_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DALI warns of cuFFT and NPP; this project's filters allow these warnings."""
    backend = pytest.importorskip("nvidia.dali.backend")
    monkeypatch.setattr(backend, "cuda_checked", False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "GPU is not available")
        backend.check_cuda_runtime()
    assert backend.cuda_checked
