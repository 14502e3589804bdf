"""Code that processes run before anything else, so that a test can break them inside."""

import sys
from pathlib import Path

import pytest

from loaders.loader_process import process as process_module


def run_first(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, this test's loaders have a new loader process, which runs `code` first."""
    monkeypatch.syspath_prepend(_written(code, folder))
    monkeypatch.setattr(process_module, "_shared", None)


def run_in_both(code: str, folder: Path) -> None:
    """Runs `code` in this process, which a test has forked, and first in its loader process."""
    sys.path.insert(0, _written(code, folder))
    exec(code, {})


def _written(code: str, folder: Path) -> str:
    """The folder with the code as a module that a new Python program imports by itself.

    The loader process finds its modules where the training does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    return str(folder)
