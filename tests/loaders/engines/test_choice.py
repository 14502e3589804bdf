"""Which engine is chosen, and which reason is given."""

import logging
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from loaders import DaliLayout, TryLayouts, loader, open_loader
from loaders.engines import choice as engines
from loaders.engines.choice import auto_engine, engine_name
from loaders.engines.dali.nvdec import DecoderCaps, NvdecError, decoder_caps
from loaders.plan.views import ViewSpec
from shards.errors import InputError
from shards.format.manifest import Manifest

# The answer of an H100 for H.264, 4:2:0, 8 bit.
H264 = DecoderCaps(
    is_supported=True,
    num_decoders=7,
    min_size=(64, 48),
    max_size=(4096, 4096),
    max_macroblocks=65536,
)
NOTHING = replace(H264, is_supported=False)


@pytest.mark.gpu
def test_a_gpu_that_decodes_says_so() -> None:
    caps = decoder_caps(torch.device("cuda"), "h264")
    assert caps.num_decoders >= 1
    assert caps.takes(256, 352)
    assert engine_name("auto") == "dali"
    assert engine_name("auto", "cpu") == "fused"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_is_fused_without_a_gpu_and_says_why_once(
    numbered_shards: Manifest, tiny_views: ViewSpec, caplog: pytest.LogCaptureFixture
) -> None:
    assert engine_name("auto") == engine_name("auto", "cpu") == "fused"
    loader._say_why.cache_clear()
    caplog.set_level(logging.INFO, "loaders")
    for rank in (1, 0, 0):
        open_loader(numbered_shards, tiny_views, rank=rank, world_size=2)
    assert caplog.messages == ["loader: engine fused (there is no CUDA device)"]
    open_loader(numbered_shards, tiny_views, engine="fused")
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("installed", "caps", "expected"),
    [
        (True, H264, ("dali", "this GPU decodes video")),
        (True, NOTHING, ("fused", "this GPU's decoder takes no h264")),
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
    choice, h264 = auto_engine.__wrapped__, frozenset({"h264"})
    assert choice("auto", h264) == choice("cuda:0", h264) == expected
    assert choice("cpu", h264) == ("fused", "the device is cpu")
    if installed:
        why = "DALI does not decode mjpeg on a GPU"
        assert choice("cuda:0", h264 | {"mjpeg"}) == ("fused", why)


def test_dali_without_dali_names_the_extra(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "dali_is_installed", lambda: False)
    with pytest.raises(InputError, match=r"timebalance\[dali\]"):
        open_loader(numbered_shards, tiny_views, engine="dali", device="cpu")


@pytest.mark.parametrize("engine", ["fused", "reference"])
@pytest.mark.parametrize("layout", [DaliLayout(num_pipelines=1, depth=1), TryLayouts()], ids=str)
def test_a_layout_is_refused_off_dali(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    engine: str,
    layout: DaliLayout | TryLayouts,
) -> None:
    with pytest.raises(InputError, match=f"layout is for the engine dali, and this is {engine}"):
        open_loader(numbered_shards, tiny_views, engine=engine, layout=layout)


@pytest.mark.parametrize(
    "without",
    [
        'sys.modules["numba"] = sys.modules["llvmlite"] = None',
        "import numba.core.cgutils; del numba.core.cgutils.pack_array, numba.extending.intrinsic",
    ],
)
def test_only_the_fused_engine_needs_numba(numbered_shards: Manifest, without: str) -> None:
    command = [sys.executable, "-c", _WITHOUT_NUMBA.format(without), str(numbered_shards.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shape, error = done.stdout.splitlines()
    assert shape == "(8, 8, 32, 32)"
    assert error.startswith("engine fused cannot be used (")
    assert "or choose the engine reference" in error


_WITHOUT_NUMBA = """
import sys
{}
from loaders import DaliLayout, TryLayouts, open_loader
from shards import InputError
with open_loader(sys.argv[1], "finetune", size_px=32, engine="reference", device="cpu") as loader:
    clip = next(iter(loader)).views["clip"]
print((len(clip), *clip.shape[2:]))
try:
    open_loader(sys.argv[1], "finetune", engine="fused", device="cpu")
except InputError as error:
    print(error)
"""
