"""The library that answers DALI in the driver's place, before a made-up driver and the real one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loaders import open_loader
from loaders.engines.dali import caps_cache as module
from loaders.engines.dali.caps_cache import caps_cache
from loaders.plan.views import ViewSpec
from tests.loaders.engines.dali.conftest import Shards

# It answers with the number of the question, and refuses codec 99.
_NVCUVID = """
#include <string.h>
static int num_questions;
int cuvidGetDecoderCaps(unsigned char *caps) {
    int codec;
    memcpy(&codec, caps, sizeof codec);
    num_questions++;
    memcpy(caps + 80, &num_questions, sizeof num_questions);
    return codec == 99 ? 801 : 0;
}
int cuvidCreateDecoder(int number) { return number * number; }
int made_up_num_questions(void) { return num_questions; }
"""
_CUDA = """
static int device;
void made_up_device(int number) { device = number; }
int cuCtxGetDevice(int *found) { *found = device; return device < 0 ? 201 : 0; }
"""
# What DALI does, in a process of its own, because a library is never unloaded.
_PROGRAM = """
import ctypes
from concurrent.futures import ThreadPoolExecutor

from loaders.engines.dali.caps_cache import caps_cache

cuda, cache = ctypes.CDLL("libcuda.so.1"), caps_cache()
opened, driver = ctypes.CDLL("libnvcuvid.so"), ctypes.CDLL("libnvcuvid.so.1")

def ask(codec, bits=0):
    caps = (ctypes.c_int * 22)(codec, 1, bits)
    return opened.cuvidGetDecoderCaps(caps), caps[20]

with ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(ask, [4, 8, 10] * 100))
assert driver.made_up_num_questions() == 3
assert sorted(set(answers)) == [(0, 1), (0, 2), (0, 3)]
assert answers == answers[:3] * 100
assert ask(4, bits=2) == (0, 4)  # another question
cuda.made_up_device(1)
assert ask(4) == ask(4) == (0, 5)  # another GPU
assert (ask(99), ask(99)) == ((801, 6), (801, 7))  # a refusal may end
with cache.off():
    assert (ask(4), ask(4)) == ((0, 8), (0, 9))
cuda.made_up_device(-1)
assert (ask(4), ask(4)) == ((0, 10), (0, 11))  # no GPU is current
assert opened.cuvidCreateDecoder(7) == 49  # the driver's
assert (cache.num_questions, cache.num_asked) == (309, 11)
"""


def _compile(code: str, path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    options = ["-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", str(path), "-xc", "-"]
    subprocess.run([compiler, *options], input=code, text=True, check=True)


def test_the_driver_is_asked_once_for_each_question(tmp_path: Path) -> None:
    _compile(_NVCUVID, tmp_path / "libnvcuvid.so.1")
    _compile(_CUDA, tmp_path / "libcuda.so.1")
    shutil.copy(tmp_path / "libnvcuvid.so.1", tmp_path / "libnvcuvid.so")  # a driver has both names
    cache = tmp_path / "cache"
    variables = {"LD_LIBRARY_PATH": str(tmp_path), "TIMEBALANCE_CACHE": str(cache)}
    for named in ("cc -pipe", "no-compiler"):  # the second process finds it compiled
        variables["CC"] = named
        subprocess.run([sys.executable, "-c", _PROGRAM], env=os.environ | variables, check=True)
        assert len(list((cache / "nvdec").iterdir())) == 1


@pytest.mark.parametrize(
    ("compilers", "words"),
    [
        ((), "there is no C compiler"),
        (("false",), "exit status 1"),
        (("cc",), "libnvcuvid.so.1"),  # which a machine without a driver lacks
    ],
)
def test_without_it_a_warning_says_why(
    compilers: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(module, "_COMPILERS", compilers)
    monkeypatch.setattr(module, "_DRIVERS_NAME", f"missing-{module._DRIVERS_NAME}")
    assert caps_cache.__wrapped__() is None
    (message,) = caplog.messages
    assert "about 100 videos/s" in message
    assert words in message
    assert not list(tmp_path.rglob("*.unfinished"))


@pytest.mark.gpu
def test_dali_asks_it_and_it_asks_the_driver_once(shards: Shards, tiny: ViewSpec) -> None:
    with open_loader(shards("h264"), tiny, engine="dali", device="cuda", batch_size=2) as loader:
        cache = caps_cache()
        assert cache is not None
        questions, asked = cache.num_questions, cache.num_asked
        num_batches = sum(1 for _ in loader.batches(0)) + sum(1 for _ in loader.batches(1))
    assert cache.num_questions >= questions + num_batches
    assert cache.num_asked <= asked + 1
