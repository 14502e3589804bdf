"""The graph for a GPU is defined without one; only the build is left out."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")

from nvidia.dali import Pipeline

from loaders.engines.dali.graph import OPERATORS, Graph
from loaders.plan.normalization import NORMALIZATIONS
from loaders.plan.views import ViewSpec
from tests.loaders.engines.test_parity import SPECS


@pytest.fixture(autouse=True)
def _not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building asks for the GPU; all before it does not."""
    monkeypatch.setattr(Pipeline, "build", Pipeline._build_graph)


def _operators(
    spec: ViewSpec, dtype: str = "float32", until: str | None = None
) -> Counter[tuple[str, str]]:
    """(operator, where it runs) -> how often."""
    graph = Graph(
        spec,
        dtype=dtype,
        device=torch.device("cuda:0"),
        decodes=True,
        batch_size=2,
        num_threads=14,
        depth=2,
        until=until,
    )
    pipeline = graph._pipeline
    assert (pipeline.device_id, pipeline.num_threads, pipeline.prefetch_queue_depth) == (0, 14, 2)
    kinds = [one._op for one in pipeline._ops]
    return Counter((getattr(x, "schema_name", type(x).__name__), x.device) for x in kinds)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("name", SPECS)
def test_pictures_stay_on_the_gpu(name: str, dtype: str) -> None:
    spec = SPECS[name]
    found = _operators(spec, dtype)
    # A video is decoded once, whatever the number of its views.
    assert found["decoders__Video", "mixed"] == 1
    for operator in ("SequenceRearrange", "Slice", "Resize", "CoordTransform"):
        assert found[operator, "gpu"] == spec.num_views
    assert found["Stack", "gpu"] == len(spec.groups)
    assert found["Cast", "gpu"] == (0 if dtype == "float32" else spec.num_views)
    # On the CPU there are only the inputs, and the numbers of single views cut from them.
    on_cpu = {operator for operator, device in found if device == "cpu"}
    assert on_cpu <= {"ExternalSource", "_TensorSubscript"}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_graph_up_to_an_operator_has_no_more(name: str) -> None:
    whole = [
        *("decoders__Video", "SequenceRearrange", "Slice", "Resize", "CoordTransform"),
        *("_ArithmeticGenericOp", "Erase", "CropMirrorNormalize"),
    ]
    spec = replace(SPECS["everything"], normalization=NORMALIZATIONS["imagenet"])
    found = {operator for operator, _ in _operators(spec, until=name)}
    expected = whole[: list(OPERATORS).index(name) + 1]
    if name == "colour":
        expected.append("_ArithmeticGenericOp")  # the clamp
    assert found & set(whole) == set(expected)
