"""Messages of the libraries, as a program shows them."""

import subprocess
import sys

import pytest

CODE = """
import logging
from tb import log_output
log_output.show()
log_output.show()
for name in ("shards", "loaders", "tb.training"):
    logging.getLogger(name).info("from %s", name)
logging.getLogger("tb").warning("careful")
logging.getLogger("other").info("unheard")
"""


@pytest.mark.parametrize(
    ("rank", "lines"),
    [
        (None, ["from shards", "from loaders", "from tb.training", "careful"]),
        ("0", ["from shards", "from loaders", "from tb.training", "careful"]),
        ("1", ["careful"]),
    ],
)
def test_they_are_plain_lines_on_stderr_once_and_of_rank_0(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, lines: list[str]
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == lines
    assert done.stdout == ""
