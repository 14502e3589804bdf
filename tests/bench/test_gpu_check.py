"""The GPU check runs to its end, and its results name steps that failed or had no time."""

import json
from pathlib import Path

import pytest
import torch

from bench import gpu_check
from bench.gpu_check import main
from bench.gpu_meter import summary
from bench.gpu_steps import STEPS
from bench.gpu_task import RECIPES
from bench.peers import torchcodec_decoder


def torchcodec_is_usable() -> bool:
    try:
        torchcodec_decoder()
    except ImportError:
        return False
    return True


@pytest.mark.slow
def test_a_dry_run_passes_every_step(tmp_path: Path) -> None:
    assert main(["--dry-run", "--out", str(tmp_path), "--minutes", "20"]) == 0
    results = json.loads((tmp_path / "dry-run.json").read_text())
    assert results["dry_run"] is True
    assert list(results["steps"]) == list(STEPS)
    assert {step["status"] for step in results["steps"].values()} == {"passed"}
    found = {name: step["found"] for name, step in results["steps"].items()}
    assert found["shards"].keys() == set(RECIPES)
    assert len(found["parity"]) == 6 * len(RECIPES)
    for step in ("determinism", "faults"):
        assert found[step]["tests"] > found[step]["failed"] == found[step]["skipped"] == 0
    # Those marked gpu, which a dry run selects but cannot run without a GPU.
    assert found["tests"]["tests"] > 10
    assert found["tests"]["failed"] == 0
    if not torch.cuda.is_available():
        assert found["tests"]["skipped"] == found["tests"]["tests"]
    for name, cell in found["throughput"].items():
        # torchcodec needs FFmpeg's libraries.
        is_missing = name.endswith("torchcodec") and not torchcodec_is_usable()
        assert cell["missing"] if is_missing else cell["videos_per_s"] > 0, name
    assert "pretrain 32 vp9 plain dali" in found["throughput"]
    assert {"dali x1", "dali x2", "fused", "torchcodec"} == {
        name.split("h264 ")[1]
        for name in found["throughput"]
        if name.startswith("pretrain 32 h264")
    }


def test_steps_without_time_are_left_out(tmp_path: Path) -> None:
    assert main(["--dry-run", "--out", str(tmp_path), "--minutes", "0"]) == 1
    steps = json.loads((tmp_path / "dry-run.json").read_text())["steps"]
    assert list(steps) == list(STEPS)
    assert {step["status"] for step in steps.values()} == {"left out"}


def test_a_step_that_fails_is_recorded_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {name: STEPS[name] for name in ("parity", "capabilities")}  # parity has no shards here
    monkeypatch.setattr(gpu_check, "STEPS", steps)
    assert main(["--dry-run", "--out", str(tmp_path), "--minutes", "5"]) == 1
    results = json.loads((tmp_path / "dry-run.json").read_text())["steps"]
    assert results["parity"]["status"] == "failed"
    assert "no such folder" in results["parity"]["error"]
    assert results["capabilities"]["status"] == "passed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    assert "no CUDA device; --dry-run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_files_are_named_after_the_gpu() -> None:
    assert gpu_check._slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_what_the_meter_tells() -> None:
    samples = [{"sm_percent": 10.0, "memory_mb": 5.0}, {"sm_percent": 30.0, "memory_mb": 4.0}]
    assert summary(samples) == {
        "sm_percent_mean": 20.0,
        "sm_percent_max": 30.0,
        "memory_mb_mean": 4.5,
        "memory_mb_max": 5.0,
    }
    assert summary([]) == {}
