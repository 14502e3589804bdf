"""`tb data advise`, as typed: what it says is what `tb shard` then does."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import tb
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.ingestion.ingest_report import IngestReport
from shards.ingestion.job import NothingUsableError
from shards.sources.folder import from_folder
from shards.sources.source import Dataset
from tb.advice.sample import draw_sample
from tb.cli import app
from tb.progress import ProgressBar
from tests.make_videos import make_video
from tests.shards import damage
from tests.tb import commands

ADVISE = ("data", "advise", "folder", "--root")
# Crops of one size only: few candidates.
VIEWS = ("--views", "similarity", "--size", 32, "--workers", 1)

# A shell that runs the tests in the background makes programs ignore Ctrl-C.
_WITH_CTRL_C = """
import signal
from tb.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of three videos, 96 x 128, and one that is cut off."""
    root = tmp_path_factory.mktemp("videos")
    for name in ("jump", "spin"):
        for index in range(3):
            make_video(root / name / f"{name}{index}.mp4", num_frames=24, seed=index)
    damage.truncated(root / "jump" / "cut.mp4")
    return root


class Run:
    """A run of `tb data advise` on all videos.

    Attributes:
        out: Its folder.
        text: What it printed.
        following: The words after `tb` of the command that it names.
        content: Of advice.json.
        progress: The percentages that it showed, each with what was being done.
    """

    def __init__(self, videos: Path, out: Path) -> None:
        self.progress: list[tuple[int, str]] = []
        shown = ProgressBar.update

        def noted(bar: ProgressBar, done: int, note: str = "") -> None:
            self.progress.append((done, note))
            shown(bar, done, note)

        arguments = ("folder", "--root", videos, "--out", out, *VIEWS)
        arguments += ("--max-gb", 1, "--min-psnr", 25)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ProgressBar, "update", noted)
            done = commands.run("data", "advise", *arguments)
        self.out, self.text = out, done.stdout
        self.following = commands.next_words(done.stderr)
        self.content: dict[str, Any] = json.loads((out / "advice.json").read_text())


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(videos, tmp_path_factory.mktemp("advice") / "new" / "out")


def test_it_leaves_a_table_and_a_picture_and_nothing_else(run: Run) -> None:
    assert {path.name for path in run.out.iterdir()} == {"advice.json", "advice.png"}
    with Image.open(run.out / "advice.png") as picture:
        assert picture.width > 500
    names = [row["name"] for row in run.content["candidates"]]
    assert {"h264 gop 16 ≤96", "h264 gop 32 ≤64", "mjpeg ≤64", "copy"} <= set(names)
    rows = [line for line in run.text.splitlines() if line.startswith(("h264 ", "mjpeg", "copy"))]
    assert len(rows) == len(names)
    assert run.content["left_out"] == {}


def test_progress_goes_from_0_to_100_and_says_what_is_being_done(run: Run) -> None:
    percent = [done for done, _ in run.progress]
    assert percent == sorted(percent)
    assert (percent[0] < 10, percent[-1]) == (True, 100)
    assert len(set(percent)) > 10
    notes = {note for _, note in run.progress}
    assert {f"storing {row['name']}" for row in run.content["candidates"]} <= notes
    assert {f"comparing {row['name']}" for row in run.content["candidates"]} <= notes
    assert "round 1 of 5" in notes


def test_bad_videos_are_named_and_left_out(run: Run) -> None:
    assert "6 of 7 videos tried" in run.text
    assert "cannot be used: jump/cut.mp4: truncated" in run.text
    assert list(run.content["skipped"]) == ["jump/cut.mp4"]


def test_sizes_are_those_of_tb_shard(run: Run, videos: Path, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in run.content["candidates"]}
    for name, settings in {
        "mjpeg ≤64": {"recipe": "mjpeg", "short_side": 64},
        "h264 gop 8 ≤64": {"gop": 8, "short_side": 64},
        "copy": {"recipe": "copy"},
    }.items():
        report = tb.shard(videos, out=tmp_path / name, workers=1, **settings)  # type: ignore[arg-type]
        assert report.num_bytes == rows[name]["set_bytes"]
        assert report.num_bytes / 6 == rows[name]["bytes_per_video"]


def test_the_command_it_names_does_what_it_promises(run: Run) -> None:
    words = run.following
    assert f"{run.content['num_videos'] - 1} videos" in commands.tb(*words, "--workers", 1)
    manifest = read_manifest(words[words.index("--out") + 1])
    (choice,) = (row for row in run.content["candidates"] if row["name"] == run.content["choice"])
    assert (
        f"choice   {choice['name']}: the fastest with at least 25 dB and at most 1.00 GB"
        in run.text
    )
    assert sum(path.stat().st_size for path in manifest.root.glob("*.tar")) == choice["set_bytes"]


def test_larger_pictures_are_closer_to_the_source(run: Run) -> None:
    psnr_db = {row["name"]: row["psnr_db"] for row in run.content["candidates"]}
    assert psnr_db["copy"] is None
    assert psnr_db["h264 gop 16 ≤64"] < psnr_db["h264 gop 16 ≤96"]


def test_no_time_leaves_two_candidates_and_a_tight_budget_none(
    videos: Path, tmp_path: Path
) -> None:
    command = [*ADVISE, videos, "--out", tmp_path, *VIEWS, "--videos", 2]
    command += ["--minutes", 1e-6, "--max-gb", 1e-6, "--min-psnr", 20]
    arguments = [str(word) for word in command]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, InputError)
    assert "max_gb is 1e-06 (--max-gb): the smallest candidate with 20 dB" in str(done.exception)
    assert "not tried: h264 gop 8 ≤64, h264 gop 32 ≤64, mjpeg ≤64, copy: no time" in done.stdout
    found = json.loads((tmp_path / "advice.json").read_text())
    assert found["choice"] is None
    tried = [row["name"] for row in found["candidates"]]
    assert tried == ["h264 gop 16 ≤96", "h264 gop 16 ≤64"]
    # The whole set shrinks as the sample does.
    source_bytes = draw_sample(from_folder(videos), 2).source_bytes()
    assert source_bytes < found["source_bytes"]
    for row in found["candidates"]:
        num_bytes = row["bytes_per_video"] * found["num_tried"]
        assert row["set_bytes"] == round(num_bytes * found["source_bytes"] / source_bytes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", 4), "size_px is 4"),
        (("--size", 5000), "size is 5000 px (--size)"),
        (("--max-gb", 0), "max_gb is 0 (--max-gb)"),
        (("--min-psnr", -3), "min_psnr is -3 (--min-psnr)"),
        (("--minutes", 0), "minutes is 0 (--minutes)"),
        (("--root", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    videos: Path, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    command = (*ADVISE, videos, "--out", tmp_path / "out", *words)
    assert message in commands.complaint(*command)
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_cannot_be_made_and_videos_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    for index in range(2):
        damage.text(tmp_path / "set" / "a" / f"{index}.mp4")
    (tmp_path / "file").touch()
    for out, message in (
        ("file", f"{tmp_path / 'file'}: File exists; choose another out (--out)"),
        ("out", "none of 2 sampled videos can be used, e.g. a/0.mp4: not a video"),
    ):
        with pytest.raises(InputError) as caught:
            tb.advise(tmp_path / "set", out=tmp_path / out, workers=1)
        assert message in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_candidate_that_stores_no_video_is_left_out(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as hevc with an FFmpeg that has no encoder for it."""

    def refuses(dataset: Dataset, out: Path, *, recipe: Recipe, **options: Any) -> IngestReport:
        if recipe.codec == "mjpeg":
            raise NothingUsableError("none of the videos can be used")
        return ingest(dataset, out, recipe=recipe, **options)

    monkeypatch.setattr("tb.advice.measure.ingest", refuses)
    advice = tb.advise(videos, out=tmp_path / "out", views="similarity", size=32, workers=1)
    assert advice.found.left_out["mjpeg ≤64"] == "it cannot store any of the videos"
    assert advice.found.measured


def test_ctrl_c_leaves_no_shards(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", _WITH_CTRL_C, *ADVISE, videos]
    words = [str(word) for word in (*command, "--out", out, *VIEWS)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        while not list(out.glob("trial-*/0/*.tar")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode not in (0, 2)
    assert "Traceback" not in errors
    assert list(out.iterdir()) == []


def test_a_killed_run_changes_nothing_and_the_next_one_begins_again(
    videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tb.cli", *ADVISE, videos]
    (tmp_path / "bad" / "a").mkdir(parents=True)
    for index in range(2):
        damage.text(tmp_path / "bad" / "a" / f"{index}.mp4")
    (out / "trial-mine").mkdir(parents=True)  # not a folder of this program
    (out / "advice.json").write_text("an earlier advice")

    def next_run() -> list[str]:
        with pytest.raises(InputError, match="none of 2 sampled videos"):
            tb.advise(tmp_path / "bad", out=out, workers=1)
        return [path.name for path in out.iterdir()]

    process = subprocess.Popen([str(word) for word in (*command, "--out", out, *VIEWS)])
    try:
        while not list(out.glob("trial-*/reference/*.tar")):
            assert process.poll() is None
            time.sleep(0.01)
        assert len(next_run()) == 3  # it leaves the folder of a run that goes on
    finally:
        process.kill()
        process.wait()
    assert (out / "advice.json").read_text() == "an earlier advice"
    assert len(list(out.iterdir())) == 3
    options = {"views": "similarity", "size": 32, "videos": 2, "minutes": 1e-6, "workers": 1}
    advice = tb.advise(videos, out=out, min_psnr=20, **options)  # type: ignore[arg-type]
    assert (out / "advice.json").read_text() == advice.to_json()
    assert {path.name for path in out.iterdir()} == {"advice.json", "advice.png", "trial-mine"}
