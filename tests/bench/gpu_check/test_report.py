"""The report of a check: verdicts by stage and size, whatever was measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu_check.__main__ import main
from bench.gpu_check.report import page_of, slug, verdict, write_report
from shards.errors import InputError


def _step(found: dict[str, Any], **more: Any) -> dict[str, Any]:
    step = {"status": "passed", "cell": None, "minutes": 8, "seconds": 3.0, "error": ""}
    return {**step, "found": found, **more}


STEPS = {
    "decoding": _step(
        {
            "h264 whole files 1x16": {
                "videos_per_s": 105.0,
                "frames_per_video": 132.0,
                "frames_per_s": 13860.0,
            },
            "h264 windows 1x16": {
                "videos_per_s": 190.0,
                "frames_per_video": 72.0,
                "frames_per_s": 13680.0,
            },
        }
    ),
    "loaders": _step(
        {
            "pretrain 224 h264 dali": {"videos_per_s": 150.0, "decoder_percent_mean": 91.0},
            "pretrain 224 h264 fused": {"videos_per_s": 60.0},
            "pretrain 224 h264 torchcodec": {"missing": "no FFmpeg"},
            "pretrain 112 h264 dali": {"problem": "RuntimeError: out | of memory"},
            "student 224 h264 fused": {"videos_per_s": 900.0},
        },
        status="failed",
    ),
    "training": _step(
        {
            "distinctive 224 ready in memory": {"step_s": 0.05, "videos_per_s": 80.0},
            "distinctive 224 from dali": {"step_s": 0.05, "videos_per_s": 80.0},
            "distinctive 224 from fused": {"step_s": 0.1, "videos_per_s": 40.0},
            "student 224 ready in memory": {"step_s": 0.01, "videos_per_s": 800.0},
        },
        status="running",
        cell="student 224 from dali",
    ),
}


def test_verdicts() -> None:
    assert verdict(79.0, 80.0) == "data-bound"
    assert verdict(100.0, 80.0) == "compute-bound, with little spare"
    assert verdict(120.0, 80.0) == "compute-bound"


def test_the_page_compares_supply_and_demand() -> None:
    page = page_of({"device": "NVIDIA H100", "dry_run": False, "steps": STEPS})
    for line in (
        "| distinctive | 224 | dali | 150 | 80.0 | 1.88 | compute-bound |",
        "| distinctive | 224 | fused | 60 | 80.0 | 0.75 | data-bound |",
        "| distinctive | 224 | waits for data |  |  |  | dali 0.0%, fused 50.0% |",
        "| student | 224 | fused | 900 | 800.0 | 1.12 | compute-bound, with little spare |",
        "| student | 224 | waits for data |  |  |  | dali not measured, fused not measured |",
        "| h264 whole files 1x16 | 132.0 | 105.0 | 13860.0 |",
        "| h264 windows 1x16 | 72.0 | 190.0 | 13680.0 |",
        "| loaders | failed | 3 | pretrain 112 h264 dali |",
        "| training | running | 3 | stopped in student 224 from dali |",
    ):
        assert line in page
    assert "out \\| of memory" in page  # it does not break the table
    assert "dry run" not in page


def test_the_report_of_a_killed_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page, data = tmp_path / "out", tmp_path / "new" / "h100.md", tmp_path / "h100.json"
    (out / "steps").mkdir(parents=True)
    (out / "check.json").write_text('{"device": "NVIDIA H100 80GB", "dry_run": false}')
    for name, step in STEPS.items():
        (out / "steps" / f"{name}.json").write_text(json.dumps(step))
    assert main(["report", "--out", str(out), "--page", str(page), "--json", str(data)]) == 0
    assert capsys.readouterr().out == f"written to {data}\nwritten to {page}\n"
    results = json.loads(data.read_text())
    assert results["device"] == "NVIDIA H100 80GB"
    assert results["steps"] == STEPS
    assert page.read_text() == page_of(results)
    assert [path.name for path in write_report(out)] == [
        "nvidia-h100-80gb.json",
        "nvidia-h100-80gb.md",
    ]


def test_a_folder_without_a_check_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="holds no check"):
        write_report(tmp_path)
    assert main(["report", "--out", str(tmp_path)]) == 2
    assert "holds no check; run python -m bench.gpu_check --out" in capsys.readouterr().err


def test_files_are_named_after_the_gpu() -> None:
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
