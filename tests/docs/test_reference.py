"""Every public name is in the reference, and nothing else is."""

import importlib
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.mark.parametrize("package", ["shards", "loaders", "tb"])
def test_the_page_has_every_public_name_once(package: str) -> None:
    names = re.findall(rf"^::: {package}\.(\w+)$", (PAGES / f"{package}.md").read_text(), re.M)
    assert sorted(names) == sorted(importlib.import_module(package).__all__)


@pytest.mark.parametrize("package", ["shards", "loaders", "tb"])
def test_every_public_name_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        found = getattr(module, name)
        # A dataclass without a docstring gets its signature as one.
        assert not (found.__doc__ or f"{name}(").startswith(f"{name}("), name
