"""Without uint8 the operators are those of the graph, and with it they change little."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
pytest.importorskip("triton", reason="needs Triton")

from bench import dali_operators
from loaders import DaliViews, open_loader
from loaders.engines.dali import graph
from loaders.engines.dali.memory import sample_memory
from loaders.plan import stage_views
from shards.format.manifest import Manifest

PLAIN, *OTHERS = dali_operators.WAYS


@pytest.mark.parametrize("dtype", dali_operators.TYPES)
def test_the_way_without_bytes_is_the_graph(
    textured_shards: Manifest, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = stage_views.finetune(num_frames=2, size_px=32)

    def views() -> torch.Tensor:
        with open_loader(
            textured_shards, spec, engine="dali", device="cpu", batch_size=3, dtype=dtype
        ) as loader:
            return next(loader.batches(0)).views["clip"]

    expected = views()
    for way in dali_operators.WAYS:
        with monkeypatch.context() as patched:
            patched.setattr(graph, "_operators", partial(dali_operators.operators, way, dtype))
            patched.setattr(graph, "_typed", lambda view, _: view)
            found = views()
        error = (found.float() - expected.float()).abs() * (1 if dtype == "uint8" else 255)
        assert found.dtype == expected.dtype
        assert (error.max() == 0) == (way is PLAIN)
        assert error.mean() < 1


@pytest.mark.parametrize("dtype", dali_operators.TYPES)
def test_what_dali_puts_out_is_what_memory_is_predicted_from(dtype: str) -> None:
    """Only the type of the views behind gamma takes less memory, and none takes half."""
    px = 1.0
    predicted = sample_memory(dali_operators.COUNTED, dtype, DaliViews.OPERATORS, px).between
    alive = [dali_operators.counted(way, dtype)["mb_alive"] * 1e6 for way in dali_operators.WAYS]
    assert alive[:3] == pytest.approx([predicted] * 3)
    share = {"float32": 1.0, "float16": 0.75, "uint8": 0.625}[dtype]
    assert alive[3] == pytest.approx(share * predicted)


def test_the_page_has_the_table_of_the_file() -> None:
    root = Path(__file__).resolve().parents[2]
    figures = json.loads((root / "bench" / "results" / "dali_operators.json").read_text())
    page = (root / "docs" / "dali.md").read_text()
    assert {row["way"] for row in figures["rows"]} == {way.name for way in dali_operators.WAYS}
    assert dali_operators.table(figures["rows"]) in page
