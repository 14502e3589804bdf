"""The kernel compiles for GPUs without spilling, and its bench counts bytes as it says."""

import json
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="pip install 'timebalance[dali]'")

from bench import view_kernel
from loaders import DaliViews
from loaders.plan import stage_views
from loaders.plan.views import Augment

ALL = [(target, dtype) for target in view_kernel.TARGETS for dtype in view_kernel.TYPES]


@pytest.mark.parametrize(
    ("target", "dtype"),
    [pytest.param(*one, marks=[pytest.mark.slow] * (one[0] != 90)) for one in ALL],
)
def test_no_variant_spills(
    target: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    variant = view_kernel.compiled_variant(target, dtype)
    assert variant["spill_bytes"] == variant["stack_bytes"] == 0
    # So many that half of the threads that a multiprocessor can hold find room.
    assert 0 < variant["registers"] <= 64
    assert variant["shared_bytes"] <= 4096


def test_the_kernel_moves_its_crop_and_its_view() -> None:
    spec = stage_views.finetune(num_frames=2, size_px=100, augment=Augment())
    pixels = {"float32": 240 * 320 + 4 * 100**2, "uint8": 240 * 320 + 100**2}
    for dtype, expected in pixels.items():
        assert view_kernel.moved_bytes(spec, dtype, DaliViews.KERNEL) == 2 * 3 * expected
    plain, erasing = (
        view_kernel.moved_bytes(
            stage_views.finetune(num_frames=1, size_px=100, augment=augment),
            "float32",
            DaliViews.OPERATORS,
        )
        for augment in (Augment(), Augment(num_erase=1))
    )
    assert erasing - plain == 3 * 2 * 4 * 100**2  # an operator reads and writes float32


@pytest.mark.slow
def test_the_bench_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["view_kernel", "--json", str(path)])
    view_kernel.main()
    figures = json.loads(path.read_text())
    assert len(figures["compiled"]) == len(ALL)
    assert figures["parity"] == []
    for name in ("moved_mb_per_view", "mb_per_sample"):
        assert len(figures[name]) == len(view_kernel.STAGES) * len(view_kernel.TYPES) * 2


def test_the_page_has_the_figures_of_the_file() -> None:
    root = Path(__file__).resolve().parents[2]
    figures = json.loads((root / "bench" / "results" / "view_kernel.json").read_text())
    page = (root / "docs" / "dali.md").read_text()
    assert {row["views"] for row in figures["parity"]} == set(view_kernel.VIEWS)
    assert len(figures["parity"]) == len(view_kernel.VIEWS) * len(view_kernel.TYPES)
    assert view_kernel.parity_table(figures["parity"]) in page
    for row in figures["compiled"]:
        name = f"{row['gpu']} ({view_kernel.TARGETS[int(row['gpu'].removeprefix('sm_'))]})"
        assert f"| {name} | {row['registers']} | {row['spill_bytes']} bytes |" in page
