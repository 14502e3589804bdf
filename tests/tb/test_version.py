"""The version says which commit runs, and all files that name a version name the same."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

from tb.version import __version__

ROOT = Path(__file__).resolve().parents[2]


def printed(root: Path) -> str:
    code = "from tb.version import version_text; print(version_text())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def git(root: Path, *words: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *name, *words], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_checkout_names_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    (tmp_path / "tb").mkdir()
    for name in ("__init__.py", "version.py"):
        shutil.copy(ROOT / "tb" / name, tmp_path / "tb" / name)
    assert printed(tmp_path) == __version__
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert printed(tmp_path) == f"{__version__} (commit {commit})"
    (tmp_path / "tb" / "__init__.py").write_text("")
    assert printed(tmp_path) == f"{__version__} (commit {commit}, changed)"


def test_the_command_prints_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tb.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(__version__)


def test_the_files_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"] == __version__
    assert citation["license"] == project["license"]
    assert {"cff-version", "title", "message", "authors"} <= citation.keys()


def test_the_changelog_begins_with_this_version() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    titles = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    form = re.compile(r"\[(\d+\.\d+\.\d+)\] - (unreleased|\d{4}-\d\d-\d\d)")
    found = [form.fullmatch(title) for title in titles]
    assert all(found), titles
    assert next(title[1] for title in found if title) == __version__
    assert not [title for title in titles[1:] if "unreleased" in title]
    kinds = {line.removeprefix("### ").split(":")[0] for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_classifiers_name_the_versions_of_python_that_are_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = SpecifierSet(project["requires-python"])
    minor = "Programming Language :: Python :: 3."
    named = [f"3.{x.removeprefix(minor)}" for x in project["classifiers"] if x.startswith(minor)]
    assert named == [f"3.{number}" for number in range(30) if allowed.contains(f"3.{number}")]
