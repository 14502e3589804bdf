"""What the pages say to type can be typed: code runs, and commands have these options."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from shards.files.store import open_store
from shards.format.manifest import Manifest
from tb.cli import app
from tb.config.load_config import load_config
from tests.make_videos import make_video
from tests.tb.commands import tb

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted({ROOT / "README.md", *ROOT.glob("docs/**/*.md")})
# The examples of docs/loading.md have a test of their own, with the packages that they need.
CODE = [
    (page, code)
    for name in ("model", "cookbook/preemptible", "cookbook/s3")
    for page in [ROOT / "docs" / f"{name}.md"]
    for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)
]
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
    assert len({page for page, _ in CODE}) == 3
    assert len({page.name for page, _ in COMMANDS}) > 8


@pytest.mark.parametrize(("page", "code"), CODE, ids=[page.stem for page, _ in CODE])
def test_code_runs(page: Path, code: str, numbered_shards: Manifest, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/set"
    if "URL" in code:
        for file in Path(numbered_shards.root).iterdir():
            open_store(url).put_bytes(file.name, file.read_bytes())
    names = {"SHARDS": numbered_shards.root, "CHECKPOINT": tmp_path / "checkpoint.pt", "URL": url}
    exec(compile(code, page.name, "exec"), names)


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
