"""`tb inspect teachers`: what it prints and writes."""

import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from shards.format.manifest import Manifest
from tb import inspect_teachers
from tb.config.load_config import remember_config
from tb.config.sections import Config
from tb.method.teacher_inspection import read_inspection
from tests.tb.commands import complaint, next_words, run, tb

CHARTS = ("classes", "disagreements", "reliability", "right", "scores")


@pytest.fixture
def work(taught: Path, many_labels: Config) -> Path:
    remember_config(taught, many_labels)
    return taught


def test_it_prints_the_shares_and_draws_every_chart(work: Path, manifest: Manifest) -> None:
    out = tb("inspect", "teachers", work, "--shards", manifest.root, "--with-hidden-labels")
    found = read_inspection(work)
    assert found is not None
    labelled, unlabelled = found.parts
    (line,) = (line for line in out.splitlines() if "mixture by s calibrated" in line)
    assert line.split()[-2:] == [
        f"{labelled.right['calibrated']:.1%}",
        f"{unlabelled.right['calibrated']:.1%}",
    ]
    assert "hidden labels, for analysis only" in out
    assert f"weight is {found.calibration.formula}" in out
    pictures = sorted(path.name for path in work.glob("teachers-*.png"))
    assert pictures == [f"teachers-{name}.png" for name in CHARTS]
    for name in pictures:
        with Image.open(work / name) as picture:
            assert picture.width > 1000  # two columns


def test_without_hidden_labels_nothing_says_so(work: Path, manifest: Manifest) -> None:
    done = run("inspect", "teachers", work, "--shards", manifest.root)
    out, following = done.stdout, next_words(done.stderr)
    assert following == ["train", "student", "--shards", str(manifest.root), "--out", str(work)]
    assert "hidden labels" not in out
    assert "20 labelled training videos" in out
    before = (work / "teachers.json").read_bytes()
    found = inspect_teachers(shards=manifest.root, out=work)
    assert found == read_inspection(work)
    assert (work / "teachers.json").read_bytes() == before


def test_where_the_pictures_cannot_be_written_the_numbers_are_there(
    work: Path, manifest: Manifest
) -> None:
    """No picture is newer than the numbers."""
    for name in CHARTS:
        (work / f"teachers-{name}.png").mkdir()
    with pytest.raises(IsADirectoryError):
        inspect_teachers(shards=manifest.root, out=work)
    assert read_inspection(work) is not None


def test_a_folder_without_teachers_is_named(manifest: Manifest, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    message = complaint("inspect", "teachers", nowhere, "--shards", manifest.root)
    assert message.startswith(f"{nowhere}/invariant/checkpoint.pt: no such checkpoint")
    assert not nowhere.exists()


def test_several_folders_give_a_page_of_means(
    work: Path, manifest: Manifest, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(work, other)
    page = tmp_path / "targets.md"
    words = ("inspect", "teachers", work, other, "--shards", manifest.root, "--page", page)
    assert f"see {page}" in tb(*words)
    found = read_inspection(other)
    assert found is not None
    (labelled,) = found.parts
    lines = page.read_text().splitlines()
    # Two equal folders: their mean is either's, and two have no interval.
    assert f"| mixture, half each | {100 * labelled.right['equal']:.1f} |" in lines
    assert shlex.join(["tb", *map(str, words)]) in lines


def test_a_page_that_cannot_be_written_is_refused_first(work: Path, manifest: Manifest) -> None:
    page = work / "no" / "targets.md"
    message = complaint("inspect", "teachers", work, "--shards", manifest.root, "--page", page)
    assert str(page) in message
    assert read_inspection(work) is None
