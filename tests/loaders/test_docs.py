"""The code in docs/loading.md runs as it is printed there."""

import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.format.manifest import Manifest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "loading.md"
BLOCKS = re.findall(
    r"^## ([^\n]*)$(?:(?!^## ).)*?^```python\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S
)


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 9


@pytest.mark.parametrize(("title", "code"), BLOCKS, ids=[title for title, _ in BLOCKS])
def test_example(
    title: str, code: str, numbered_shards: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("lightning", "accelerate", "webdataset"):
        if f"import {name}" in code or f"from {name}" in code:
            if find_spec(name) is None:
                pytest.skip(f"{name} is not installed; pip install 'timebalance[ecosystem]'")
            warnings.simplefilter("ignore")  # warnings of these packages
    torch.manual_seed(0)
    names: dict[str, Any] = {
        "SHARDS": numbered_shards.root,
        "VIDEOS": numbered_shards.root.parent / "videos",
    }
    exec(compile(code, f"{DOCUMENT.name}: {title}", "exec"), names)
    for name in re.findall(r"^ *for (\w+)", code, re.MULTILINE):
        assert name in names, f"the loop over '{name}' has nothing to show"
    if "trainer" in names:
        assert names["trainer"].global_step > 0
    if "profile" in code:
        assert "-bound: " in capsys.readouterr().out
