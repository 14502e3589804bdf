"""The mark `gpu` skips tests, or fails them where a GPU is required."""

from pathlib import Path

import pytest
import torch

_MARKED = """
import pytest
@pytest.mark.gpu
def test_it():
    pass
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("required", "outcome"), [("0", "skipped"), ("1", "failed")])
def test_gpu_tests_cannot_be_skipped_where_a_gpu_is_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    monkeypatch.setenv("TB_REQUIRE_GPU", required)
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = gpu: needs a GPU\n")
    pytester.makepyfile(_MARKED)
    done = pytester.inline_run("-p", "no:xdist")
    passed, skipped, failed = done.countoutcomes()
    assert (passed, skipped, failed) == (0, *{"skipped": (1, 0), "failed": (0, 1)}[outcome])
    assert (done.ret == 0) == (required == "0")
