"""The words that name a source: typed again, they name the same videos."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tb.cli.sources import Given, commands_over_sources
from tests.shards.helpers import pairs, touch


def _given(words: list[str]) -> Given:
    """What a command over all sources gets for these words."""
    app, found = typer.Typer(), []

    def act(given: Given, seed: int = 0) -> None:
        found.append(given)

    commands_over_sources(app, act)
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return found[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A path with a blank; class folders, a table and a Kinetics list, all of empty videos."""
    root = tmp_path / "my videos"
    touch(
        root, *pairs(4, "a", "b"), *(f"a/{name}_000001_000011.mp4" for name in ("x" * 11, "y" * 11))
    )
    (tmp_path / "table.csv").write_text("path,label\nmy videos/a/0.mp4,a\n")
    for split, name in (("train", "x"), ("val", "y")):
        line = f"c,{name * 11},1,11,{split}"
        (tmp_path / f"{split}.csv").write_text(
            f"label,youtube_id,time_start,time_end,split\n{line}\n"
        )
    return root


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("folder --root R", "folder --root R"),
        ("folder --root R --min-per-class 2 --seed 0", "folder --root R"),
        (
            "folder --root R --seed 3 --test-percent 50 --follow-links",
            "folder --root R --test-percent 50.0 --seed 3 --follow-links",
        ),
        ("csv --csv T --min-per-class 1", "csv --csv T --min-per-class 1"),
        (
            "kinetics400 --annotations L --root R --annotations V",
            "kinetics400 --root R --annotations L --annotations V",
        ),
    ],
)
def test_words_typed_again_name_the_same_videos(root: Path, typed: str, kept: str) -> None:
    paths = {
        "R": root,
        "T": root.parent / "table.csv",
        "L": root.parent / "train.csv",
        "V": root.parent / "val.csv",
    }
    typed_words, kept_words = (
        [str(paths.get(word, word)) for word in text.split()] for text in (typed, kept)
    )
    given = _given(typed_words)
    assert given.words == kept_words
    assert _given(given.words) == given
    assert len(given.dataset.sources) > 0


def test_the_help_says_what_is_done_with_the_videos() -> None:
    app = typer.Typer()

    def act(given: Given) -> None:
        """They are counted."""

    commands_over_sources(app, act)
    shown = CliRunner().invoke(app, ["hmdb51", "--help"]).output
    assert re.search("HMDB51 as unpacked.*They are counted", shown, re.S)
    assert "counted" not in CliRunner().invoke(app, ["--help"]).output
