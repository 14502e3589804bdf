"""The version of the package, in a module that imports nothing heavy."""

import json
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

__version__ = "0.1.0"
COMMIT_FILE = "commit.txt"
"""The file beside this one in which a build leaves its commit (hatch_build.py)."""
_HASH_CHARS = 12


def version_text() -> str:
    """The version, and the commit where it is known: "0.1.0 (commit 0123456789ab, changed)".

    The commit is known in a checkout, in a wheel that was built from one, and after pip installed
    from a repository.
    """
    here = Path(__file__).resolve()
    commit = commit_of_checkout(here.parents[1]) or _commit_of_build(here.parent)
    commit = commit or _commit_of_install()
    return f"{__version__} (commit {commit})" if commit else __version__


def commit_of_checkout(root: Path) -> str:
    """The commit of a checkout, or ""; with ", changed" if tracked files differ from it."""
    if not (root / ".git").exists():
        return ""
    commit = _git(root, "rev-parse", f"--short={_HASH_CHARS}", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}, changed" if commit and changes else commit


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
        )
    except OSError:  # git is not installed
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _commit_of_build(folder: Path) -> str:
    file = folder / COMMIT_FILE
    return file.read_text().strip() if file.is_file() else ""


def _commit_of_install() -> str:
    """The commit that pip recorded (PEP 610), or ""."""
    try:
        noted = distribution("timebalance").read_text("direct_url.json")
    except PackageNotFoundError:
        return ""
    origin = json.loads(noted or "{}").get("vcs_info", {})
    return str(origin.get("commit_id", ""))[:_HASH_CHARS]
