"""Completion in a real shell: bash completes what a person has typed so far."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder in which `tb --install-completion` has run, with `tb` in ~/bin."""
    home = tmp_path_factory.mktemp("home")
    program = home / "bin" / "tb"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom tb.cli import main\nmain()\n")
    program.chmod(0o755)
    # The last command makes bash stay, because tb looks for the shell that it was started from.
    assert "completion installed" in _bash(home, "tb --install-completion; true")
    return home


def _bash(home: Path, script: str) -> str:
    environment = {**os.environ, "HOME": str(home)}
    environment["PATH"] = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tb da", ["data"]),
        ("tb data ", ["info", "verify", "ls", "show", "advise"]),
        ("tb shard folder --recipe ", ["h264", "hevc", "vp9", "mjpeg", "copy"]),
        ("tb train baseline m", ["mean-teacher"]),
        ("tb eval st", ["student"]),
        ("tb probe knn d", ["distinctive"]),
        ("tb config show hmdb51_r50_", ["hmdb51_r50_40p", "hmdb51_r50_50p", "hmdb51_r50_60p"]),
        ("tb train student --preset de", ["demo"]),
        ("tb shards zz", []),
    ],
)
def test_bash_completes(home: Path, typed: str, offered: list[str]) -> None:
    words = typed.split(" ")
    script = (
        f"source ~/.bashrc; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1};"
        ' _tb_completion tb; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert _bash(home, script).split() == offered
