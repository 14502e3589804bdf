"""The code on the pages runs, and the commands and options on them exist."""

import ast
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import typer.main

from shards.files.store import open_store
from shards.format.manifest import Manifest
from tb.cli import app
from tb.config.load_config import load_config
from tests.make_videos import make_video
from tests.tb.commands import tb

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted({ROOT / "README.md", *ROOT.glob("docs/**/*.md")})
# tests/loaders/test_docs.py runs the first, with the packages that it needs, and
# tests/tb/test_custom_parts.py the second.
_TESTED_ELSEWHERE = {"loading.md", "custom_parts.md"}
_NEEDS_GPU = {"dali.md"}
# tests/tb/weights/test_export.py does this, with a file that it can read.
_STOCK = "model = slow_r50(pretrained=False"


def _code(page: Path) -> list[str]:
    """The page's blocks of Python."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [block for block in blocks if _STOCK not in block]


CODE = [page for page in PAGES if page.name not in _TESTED_ELSEWHERE and _code(page)]
# `tb --import ...` needs a file of the page that shows it, which has a test of its own.
_TYPED = re.compile(r"^(?:tb|srun .*?\btb|torchrun .*-m tb\.cli) (?!--)(.*)$")


def _commands(page: Path) -> list[str]:
    """The commands in the page's blocks of code, without the name of the program."""
    text = page.read_text().replace("\\\n", " ")
    fenced = re.findall(r"^```(?:bash|text)\n(.*?)^```$", text, re.M | re.S)
    indented = re.findall(
        r"^ {4}(\S.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M
    )
    lines = [*"".join(fenced).splitlines(), *indented]
    return [match[1] for match in map(_TYPED.match, lines) if match]


COMMANDS = [(page, line) for page in PAGES for line in _commands(page)]


def test_there_are_examples() -> None:
    assert len(CODE) > 8
    assert len({page.name for page, _ in COMMANDS}) > 8


@pytest.fixture
def place(
    manifest: Manifest, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder, with the data, runs and videos that the pages name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ucf101").symlink_to(manifest.root)
    shutil.copytree(finished, tmp_path / "runs" / "ucf101")
    for index, name in enumerate(("video.mp4", "a.mp4", "b.mp4", "match.mkv")):
        path = make_video(tmp_path / name, num_frames=40, seed=index)
        (tmp_path / "videos" / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "videos" / "ab"[index % 2])
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.gpu] * (page.name in _NEEDS_GPU), id=page.stem)
        for page in CODE
    ],
)
def test_code_runs(page: Path, place: Path, numbered_shards: Manifest) -> None:
    """The blocks of a page, one after the other; a later one may use the names of an earlier."""
    code = "\n".join(_code(page))
    url = f"memory://{place.name}/set"
    if "URL" in code:
        for file in Path(numbered_shards.root).iterdir():
            open_store(url).put_bytes(file.name, file.read_bytes())
    names = {
        "SHARDS": numbered_shards.root,
        "CHECKPOINT": place / "checkpoint.pt",
        "URL": url,
        "clips": torch.rand(2, 3, 4, 16, 16),
    }
    # The runs that are there have more labels.
    exec(compile(code.replace("labels.percent=20", "labels.percent=50"), page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_page_names_the_extra_that_its_code_imports(page: Path) -> None:
    text = page.read_text()
    code = ast.parse("\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)))
    imported = {one.module or "" for one in ast.walk(code) if isinstance(one, ast.ImportFrom)}
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = set(re.findall(r"pip install '(?:timebalance|\.)\[(\w+)\]'", text)) & set(extras)
    wanted = [*project["dependencies"], *(one for extra in named for one in extras[extra])]
    installed = {re.split(r"[^a-z0-9]", one)[0] for one in wanted}
    ours = {"shards", "loaders", "tb"}
    top = {name.partition(".")[0] for name in imported}
    assert top <= installed | ours | sys.stdlib_module_names


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_python_is_fenced(page: Path) -> None:
    """Python that is only indented would run in no test."""
    rest = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    python = r"^ {4}(?:import \w|from [\w.]+ import|with .*:$|[\w, ]+ = \w[\w.]*\().*"
    assert re.findall(python, rest, re.M) == []


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_measurement_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"python3? -m bench\.([a-z_]+)|python3? bench/([a-z_]+)\.py", text):
        path = ROOT / "bench" / "".join(name)
        assert path.is_dir() or path.with_suffix(".py").is_file(), path


@pytest.mark.parametrize(
    ("page", "line"), COMMANDS, ids=[f"{page.stem}: {line[:60]}" for page, line in COMMANDS]
)
def test_a_command_is_one_of_ours(page: Path, line: str) -> None:
    """Its name, options, choices, preset and settings exist; nothing runs."""
    is_whole = not re.search(r"\.\.\.|\[--", line)
    words = shlex.split(line.partition(" ||")[0], comments=True)
    command = typer.main.get_command(app)
    path = "tb"
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"{path} has no {words[0]}"
        path, command = f"{path} {words[0]}", command.commands[words.pop(0)]
    if not is_whole:
        known = {name for option in command.params for name in option.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= known
        return
    given = command.make_context(path, words).params  # refuses what does not exist
    preset = given.get("preset")
    load_config(None if preset in (None, "FILE") else str(preset), given.get("set_") or [])


@pytest.mark.slow
def test_the_start_page_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, one after the other, and the files that it names; only the steps are fewer."""
    monkeypatch.chdir(tmp_path)
    for index in range(12):
        path = tmp_path / "videos" / ("diving", "jumping")[index % 2] / f"{index}.mp4"
        make_video(path, num_frames=70, seed=index)
    (tmp_path / "videos" / "jumping" / "empty.mp4").touch()  # it is left out
    for line in _commands(ROOT / "docs" / "start.md"):
        words = shlex.split(line)
        if words[0] == "train":
            for stage in ("pretrain", "finetune", "student"):
                words += ["--set", f"{stage}.optim.steps=4"]
        tb(*words)
    for name in ("data/mine/skipped.jsonl", "views.png", "runs/mine/report.html", "answers.csv"):
        assert name in (ROOT / "docs" / "start.md").read_text()
        assert (tmp_path / name).exists(), name
