"""What a user may import from `shards`: all of it is there, and none of it costs time at import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import shards

_HEAVY = ("av", "filelock", "fsspec", "numpy", "pyarrow")


def test_every_name_is_there() -> None:
    for name in shards.__all__:
        assert getattr(shards, name).__name__ == name
    assert dir(shards) == shards.__all__ == sorted(shards.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        shards.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(shards.__file__).read_text())
    typed = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert sorted(typed) == shards.__all__
    for name, module in typed.items():
        assert getattr(shards, name).__module__ == module


def test_importing_shards_imports_nothing_heavy() -> None:
    code = f"import sys, shards; print([name for name in {_HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
