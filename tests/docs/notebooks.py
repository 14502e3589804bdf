"""Runs the notebooks of the site: `python -m tests.docs.notebooks` stores their outputs in them."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def executed(path: Path, folder: Path) -> "NotebookNode":
    """The notebook with the outputs of a run in a folder, where it leaves its files.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    # Times of execution would change the file at every run.
    client = NotebookClient(
        notebook, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_for_readers(output)]
    notebook.metadata.language_info = {"name": "python"}  # without the version
    return notebook


def _is_for_readers(output: "NotebookNode") -> bool:
    """False for bars of progress and what is logged."""
    if output.output_type == "stream":
        return bool(output.name == "stdout")
    if "data" in output:  # beside a picture there is the address of an object
        output.data.pop("text/plain", None)
    return "image/png" in output.get("data", {})


def words(notebook: "NotebookNode") -> list[str]:
    """What each cell prints, in words: numbers depend on the processor and on FFmpeg's version."""
    texts = [
        "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return [" ".join(re.sub(r"[-+\d.]+", " 0 ", text).split()) for text in texts]


if __name__ == "__main__":
    import nbformat

    for notebook in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(notebook, Path(folder)), notebook)
        print(notebook.name)
