"""Folders that the processes of one test run share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder with content that is made once for all processes of pytest-xdist.

    Args:
        factory: The fixture `tmp_path_factory`.
        name: The name of the folder; another one for each content.
        make: Writes the content into an empty folder of that name.

    Returns:
        The folder; treat it as read-only.
    """
    base = factory.getbasetemp()
    # Each process of pytest-xdist has a folder of its own below the one that they share. A pytest
    # that a test starts inherits the variable but not the folder.
    if base.name == f"popen-{os.environ.get('PYTEST_XDIST_WORKER')}":
        base = base.parent
    folder, done = base / name, base / f"{name}.done"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()  # it exists if an earlier `make` has failed: the tests fail again
            make(folder)
            done.touch()
    return folder
