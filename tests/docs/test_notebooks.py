"""The notebooks run from an empty folder, and print what is stored in them."""

from pathlib import Path

import pytest

from tests.docs.notebooks import NOTEBOOKS, executed, words


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of Jupyter; the notebook runs in another process
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_it_runs_and_prints_what_is_stored(notebook: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install 'timebalance[docs]'")
    pytest.importorskip("nbclient", reason="pip install 'timebalance[docs]'")
    stored = nbformat.read(notebook, as_version=4)
    found = words(executed(notebook, tmp_path))
    assert found == words(stored)
    assert any(found)
