"""What an engine takes is predicted, and what cannot fit is refused before it is taken."""

import os
import subprocess
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
import torch

from loaders import open_loader
from loaders.engines import memory
from loaders.engines.choice import EngineName
from loaders.engines.memory import MB, num_pictures, refuse_too_much, view_bytes
from loaders.placement import Making
from loaders.plan import stage_views
from loaders.plan.views import ViewSpec
from loaders.transfer import MAX_BATCHES_ON_DEVICE
from shards.errors import InputError
from shards.format.manifest import Manifest


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_the_buffers_of_a_run_are_those_that_were_predicted(
    numbered_shards: Manifest, tiny_views: ViewSpec, dtype: str
) -> None:
    options = {"engine": "fused", "device": "cpu", "batch_size": 3, "num_workers": 2}
    with open_loader(numbered_shards, tiny_views, dtype=dtype, **options) as loader:
        # The consumer keeps one batch while it waits for the next one.
        for batch in islice(loader.stream(), 8):
            kept = batch
        taken = sum(array.nbytes for array in loader.engine._buffers._arrays)
        assert kept.views["long"].dtype == getattr(torch, dtype)
        frames = 2 * memory.usual_picture_px(numbered_shards, loader.rows) * 1.5 * 32
        assert loader.memory_mb() == {"cpu": pytest.approx((taken + frames) / MB)}


@pytest.mark.parametrize(
    ("engine", "knobs"),
    [
        ("fused", "batch_size, size_px, dtype, num_workers or lookahead_mb"),
        ("dali", "dtype or layout"),
    ],
)
def test_a_batch_that_cannot_fit_is_refused_with_the_knobs(
    numbered_shards: Manifest, engine: str, knobs: str
) -> None:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    with pytest.raises(InputError, match=rf"would take about [\d,]+ MB .* smaller .*{knobs}"):
        open_loader(numbered_shards, "pretrain", engine=engine, device="cpu", batch_size=10**7)


@pytest.mark.parametrize("engine", [EngineName.FUSED, EngineName.REFERENCE])
def test_copies_that_do_not_fit_on_a_gpu_are_refused(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    engine: EngineName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No GPU is needed: opening takes none of its memory yet."""
    making = Making(
        cache=True,
        dtype="float16",
        device=torch.device("cuda", 0),
        num_workers=1,
        in_process=True,
        lookahead_mb=None,
        max_kept_batches=None,
        layout=None,
    )
    with open_loader(numbered_shards, tiny_views, device="cpu", batch_size=3) as loader:
        planner, on_cpu = loader.planner, loader.memory_mb()
    needed = MAX_BATCHES_ON_DEVICE * 3 * view_bytes(tiny_views, "float16")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (needed, 10 * needed))
    with closing(making.open(planner, engine)) as producer:
        taken = making.memory_mb(planner, producer, engine)
    assert taken["cuda:0"] == needed / MB
    assert taken.keys() == {"cuda:0"} | on_cpu.keys()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (needed - 1, 10 * needed))
    with pytest.raises(InputError, match=r"on cuda:0, .* smaller batch_size, size_px or dtype$"):
        making.open(planner, engine)


def test_a_container_has_less_memory_than_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, cpu, knobs = tmp_path / "memory.max", torch.device("cpu"), ["batch_size", "dtype"]
    monkeypatch.setattr(memory, "_CONTAINER_LIMIT", limit)
    for text in (None, "max\n"):
        if text is not None:
            limit.write_text(text)
        refuse_too_much(101.0, cpu, knobs)
    limit.write_text(f"{100 * MB}\n")
    refuse_too_much(99.0, cpu, knobs)
    with pytest.raises(InputError, match="about 101 MB of memory on cpu, which has 100 MB"):
        refuse_too_much(101.0, cpu, knobs)


def test_the_arithmetic_of_a_sample() -> None:
    pretrain = stage_views.pretrain(size_px=224)
    assert num_pictures(pretrain) == 64  # the long views show frames of the short ones
    assert view_bytes(pretrain, "float16") == 10 * 16 * 224 * 224 * 3 * 2
    assert num_pictures(stage_views.evaluation(num_clips=10)) == 80
    assert num_pictures(stage_views.finetune(stride=None)) == 8


_GROWTH = """
import sys
from itertools import islice
from loaders import open_loader
def kilobytes(name):
    status = open("/proc/self/status").read()
    return int(status.partition(name + ":")[2].split()[0])
options = {"engine": sys.argv[2], "dtype": sys.argv[3], "device": "cpu"}
options |= {"batch_size": 2, "num_workers": 2}
with open_loader(sys.argv[1], "pretrain", size_px=16, **options) as loader:
    # What the libraries take once does not count, such as compiling the kernel for this type.
    next(loader.stream())
before = kilobytes("VmRSS")
with open_loader(sys.argv[1], "pretrain", size_px=160, **options) as loader:
    predicted = loader.memory_mb()["cpu"]
    for batch in islice(loader.stream(), 4):
        kept = batch
print((kilobytes("VmHWM") - before) / 1024 / predicted)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("engine", ["fused", "dali"])
def test_a_process_grows_by_what_was_predicted(
    textured_shards: Manifest, engine: str, dtype: str
) -> None:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
    command = [sys.executable, "-c", _GROWTH, str(textured_shards.root), engine, dtype]
    # Otherwise glibc keeps freed memory.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0.7 <= float(done.stdout) <= 1.3
