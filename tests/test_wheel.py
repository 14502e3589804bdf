"""A wheel runs without the checkout: the whole method, with the libraries that are here."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tb.version import COMMIT_FILE, version_text
from tests.made_once import made_once

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("shards", "loaders", "tb")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*words: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What a command prints; it must succeed."""
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the source archive of this checkout."""
    pytest.importorskip("hatchling", reason="pip install hatchling")

    def make(folder: Path) -> None:
        run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
        (archive,) = folder.glob("*.tar.gz")
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
        run(*pip, "--wheel-dir", folder, archive, cwd=folder)

    return next(made_once(tmp_path_factory, "wheel", make).glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, whose dependencies are those of this one."""

    def make(folder: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
        pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
        run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
        # Python reads no *.pth in a folder that a *.pth names. So an editable install is not seen.
        (site,) = folder.glob("lib/python3*/site-packages")
        (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    return made_once(tmp_path_factory, "environment", make)


def installed(environment: Path, command: str, *words: object, cwd: Path) -> str:
    """What a command of the environment prints; it does not see this checkout."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return run(environment / "bin" / command, *words, cwd=cwd, env=env)


def test_the_wheel_holds_the_packages_and_no_other_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    tracked = run("git", "ls-files", *PACKAGES, cwd=ROOT).split()
    assert names - metadata == {*tracked, f"tb/{COMMIT_FILE}"}
    assert {"tb/presets/demo.yaml", "tb/templates/report.html"} < names
    assert {f"{package}/py.typed" for package in PACKAGES} < names
    assert any(name.endswith("/licenses/LICENSE") for name in metadata)


def test_it_names_the_commit_that_it_was_built_from(environment: Path, tmp_path: Path) -> None:
    places = "import shards, loaders, tb; print(shards.__file__, loaders.__file__, tb.__file__)"
    found = installed(environment, "python", "-c", places, cwd=tmp_path)
    assert all(Path(place).is_relative_to(environment) for place in found.split())
    assert installed(environment, "tb", "--version", cwd=tmp_path).strip() == version_text()


def test_the_demo_runs_from_it(environment: Path, tmp_path: Path) -> None:
    printed = installed(
        environment, "tb", "demo", "--size", "tiny", "--out", tmp_path / "demo", cwd=tmp_path
    )
    assert "student" in printed
    result = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert 0 <= result["student_top1"] <= 1
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
