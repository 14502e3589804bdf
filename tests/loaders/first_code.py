"""Code that new Python programs run before anything else, so that a test can break them inside."""

import os
from pathlib import Path

import pytest

from loaders.loader_process import process as process_module


def first_code(code: str, folder: Path) -> dict[str, str]:
    """Environment variables with which a Python program and those below it run `code` first.

    The loader process finds its modules where the training does, so it runs the code too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)  # `site` imports it
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", os.getcwd())]))
    return {**os.environ, "PYTHONPATH": path}


def run_first(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, this test's loaders have a new loader process, which runs `code` first."""
    first_code(code, folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(process_module, "_shared", None)
