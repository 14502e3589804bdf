"""The check measures the views by the kernel beside those by DALI's operators."""

from dataclasses import replace

import pytest
import torch

from bench.gpu_check import loading, operators
from bench.gpu_check.task import CheckCell, Task

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
pytest.importorskip("triton", reason="needs Triton")


@pytest.mark.slow
def test_every_type_and_a_loader_run_with_the_kernel(task: Task) -> None:
    by_kernel = [cell for cell in operators.cells(task) if "kernel" in cell.name]
    assert [cell.name for cell in by_kernel] == [
        f"kernel, {dtype}" for dtype in ("float32", "float16", "uint8")
    ]
    assert all(cell.run()["passed"] for cell in by_kernel)
    (loader,) = (cell for cell in loading.cells(task) if "kernel" in cell.name)
    found = loader.run()
    assert found["videos_per_s"] > 0
    assert found["layout"].endswith("and the kernel")


def test_a_gpu_measures_both_ways_for_all_views(task: Task) -> None:
    cells = list(loading.cells(replace(task, device=torch.device("cuda"))))
    ours = ("pretrain 224", "student 224", "pretrain 112", "student 112")
    assert _named(cells, "dali") == dict.fromkeys(ours, False)
    assert _named(cells, "dali kernel") == {name: "112" in name for name in ours}


def _named(cells: list[CheckCell], ending: str) -> dict[str, bool]:
    """Views in h264 that are measured with that engine -> whether only in the long check."""
    end = f" h264 {ending}"
    return {
        cell.name.removesuffix(end): cell.is_long
        for cell in cells
        if cell.name.endswith(end) and not cell.name.startswith("eval")
    }
