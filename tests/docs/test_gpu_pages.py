"""The page of a GPU is in the site as soon as it exists."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.gpu_check.report import write_report

pytest.importorskip("mkdocs", reason="pip install 'timebalance[docs]'")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("is_measured", [False, True])
def test_a_measured_gpu_is_listed_under_results(tmp_path: Path, is_measured: bool) -> None:
    docs, out = tmp_path / "docs", tmp_path / "out"
    (docs / "results").mkdir(parents=True)
    (docs / "index.md").write_text("# Home")
    (docs / "results" / "README.md").write_text("# What was measured")
    if is_measured:
        out.mkdir()
        (out / "check.json").write_text('{"device": "NVIDIA H100", "dry_run": false}')
        write_report(out, page=docs / "results" / "gpu" / "nvidia-h100.md")
    ours = (ROOT / "mkdocs.yml").read_text()
    assert "docs/gpu_pages.py" in ours
    config = {
        "site_name": "Test",
        "hooks": [str(ROOT / "docs" / "gpu_pages.py")],
        "nav": [{"Home": "index.md"}, {"Results": ["results/README.md"]}],
        "validation": {"nav": {"omitted_files": "warn"}},  # as in ours
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("NVIDIA H100" in (tmp_path / "site" / "index.html").read_text()) == is_measured
