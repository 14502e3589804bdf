"""Answers for files: the numbers of the evaluation, in Python and at the command line."""

import csv
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tb
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tb.cli.predict import seconds
from tb.prediction.prediction import BadVideo
from tb.reports import prediction_sheet
from tb.weights.checkpoint import CHECKPOINT
from tests.make_videos import make_video
from tests.tb import commands
from tests.tb.conftest import QUICK


@pytest.fixture(scope="module")
def stored(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test videos as they lie in the shards, one file for each."""
    folder = tmp_path_factory.mktemp("stored")
    with ShardReader(manifest) as reader:
        for row in manifest.indices("test").tolist():
            (folder / f"{manifest.keys[row]}.mp4").write_bytes(reader.read(row))
    return folder


def test_files_get_the_numbers_of_the_evaluation(
    finished: Path, stored: Path, tmp_path: Path
) -> None:
    """From a folder, a work folder, a checkpoint and an export."""
    table = pq.read_table(finished / "student" / "predictions-test.parquet").to_pylist()
    export = tmp_path / "student.safetensors"
    tb.export(finished / "student", out=export)
    for run in (finished / "student", finished, finished / "student" / CHECKPOINT, export):
        classifier = tb.load_classifier(run, device="cpu")
        found = {Path(one.video).stem: one for one in classifier.predict(stored)}
        assert len(found) == len(table) == 12
        for row in table:
            one = found[row["key"]]
            np.testing.assert_allclose(one.probabilities, row["probabilities"], atol=1e-5)
            assert one.best == one.classes[int(np.argmax(row["probabilities"]))]
            assert one.begin_s == 0


def test_files_are_normalized_as_in_the_evaluation(
    manifest: Manifest, stored: Path, tmp_path: Path
) -> None:
    """The run, its checkpoint and its export carry the mean and the standard deviation."""
    work = tmp_path / "work"
    settings = [*QUICK, "normalization=kinetics"]
    tb.train("supervised", shards=manifest.root, out=work, preset="demo", settings=settings)
    tb.evaluate("supervised", shards=manifest.root, out=work)
    run = work / "supervised"
    table = pq.read_table(run / "predictions-test.parquet").to_pylist()
    expected = {row["key"]: row["probabilities"] for row in table}
    export = tmp_path / "supervised.safetensors"
    tb.export(run, out=export)
    for given in (run, run / CHECKPOINT, export):
        classifier = tb.load_classifier(given, device="cpu")
        found = {Path(one.video).stem: one.probabilities for one in classifier.predict(stored)}
        assert found.keys() == expected.keys()
        for key, probabilities in found.items():
            np.testing.assert_allclose(probabilities, expected[key], atol=1e-5)


def test_lists_arrays_and_stretches(finished: Path, stored: Path) -> None:
    classifier = tb.load_classifier(finished / "student", device="cpu")
    one, two, *_ = sorted(stored.iterdir())
    both = classifier.predict([str(one), two])
    assert [prediction.video for prediction in both] == [str(one), str(two)]
    (alone,) = classifier.predict(two)
    np.testing.assert_allclose(alone.probabilities, both[1].probabilities, atol=1e-6)
    assert [name for name, _ in alone.top(99)] != list(alone.classes)
    assert sum(share for _, share in alone.top(99)) == pytest.approx(1, abs=1e-5)
    # One stretch over all of the video, with as many clips, is the video.
    (stretch,) = classifier.predict(two, every_s=1000, clips=2)
    np.testing.assert_allclose(stretch.probabilities, alone.probabilities, atol=1e-6)
    parts = classifier.predict([one, two], every_s=0.5)
    assert len(parts) > 4
    ends = [part.end_s for part in parts if part.video == str(two)]
    assert ends == sorted(ends)
    assert ends[-1] == alone.end_s
    (frames,) = classifier.predict(np.zeros((9, 40, 50, 3), np.uint8))
    assert (frames.video, frames.end_s) == ("frames", None)


def test_stretches_begin_where_their_length_says(finished: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", num_frames=30)  # 25 frames/s
    classifier = tb.load_classifier(finished, device="cpu")
    for every_s in (0.2, Fraction(1, 5)):
        found = classifier.predict(video, every_s=every_s)
        assert [one.begin_s for one in found] == [0, 0.2, 0.4, 0.6, 0.8, 1]


def test_a_bad_file_is_named_and_the_rest_goes_on(finished: Path, tmp_path: Path) -> None:
    for name in ("a", "c"):
        make_video(tmp_path / f"{name}.mp4", num_frames=20)
    (tmp_path / "b.mp4").write_bytes(b"junk")
    classifier = tb.load_classifier(finished, device="cpu")
    for every_s in (None, 0.4):
        found = list(classifier.predict_each(tmp_path, every_s=every_s))
        names = dict.fromkeys(Path(one.video).stem for one in found)
        assert list(names) == ["a", "b", "c"]
        (bad,) = [one for one in found if isinstance(one, BadVideo)]
        assert "b.mp4: not a video" in bad.reason
        with pytest.raises(InputError, match=r"b\.mp4: not a video"):
            classifier.predict(tmp_path, every_s=every_s)


def test_the_command_prints_and_writes(finished: Path, stored: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"junk")
    names = ("a.csv", "a.png")
    places = [tmp_path / name for name in names]
    options = ("--top", 3, "--csv", places[0], "--png", places[1])
    done = commands.process(
        "predict", finished / "student", stored, tmp_path / "bad.mp4", *options, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert f"no answer: {tmp_path / 'bad.mp4'}: not a video" in done.stderr
    found = json.loads(done.stdout)
    assert [one["video"] for one in found["bad"]] == [str(tmp_path / "bad.mp4")]
    expected = tb.predict(finished / "student", [stored], device="cpu").predictions
    assert len(found["predictions"]) == len(expected)
    with places[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(expected)
    for number, (one, ours) in enumerate(zip(found["predictions"], expected, strict=True)):
        best = [(part["class"], part["probability"]) for part in one["top"]]
        assert [name for name, _ in best] == [name for name, _ in ours.top(3)]
        assert best[0][1] == pytest.approx(ours.top(1)[0][1], abs=1e-4)
        row = rows[3 * number]
        assert (row["video"], row["rank"], row["class"]) == (ours.video, "1", ours.best)
    with Image.open(places[1]) as picture:
        assert picture.height > 100 * len(expected)


def test_the_command_prints_a_table_and_a_timeline(finished: Path, tmp_path: Path) -> None:
    # Neither markup nor a formula.
    video = make_video(tmp_path / r"[red]$\a_$.mp4", num_frames=60)
    done = commands.process(
        "predict", finished, video, "--every", "1s", "--png", tmp_path / "a.png", "--top", 2
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["video", "time", "1.", "2."]
    assert [line[:2] for line in lines[1:]] == [
        [str(video), time] for time in ("0:00:00.0", "0:00:01.0", "0:00:02.0")
    ]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height


def test_a_picture_of_some_of_the_videos_says_so(
    finished: Path, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_sheet, "MAX_VIDEOS", 2)
    words = ["predict", finished, "--png", tmp_path / "a.png", "--clips", 1]
    videos = sorted(stored.iterdir())[:3]
    assert (
        f"see {tmp_path / 'a.png'} (the first 2 of 3 videos)\n"
        in commands.run(*words, *videos).stderr
    )
    assert f"see {tmp_path / 'a.png'}\n" in commands.run(*words, *videos[:2]).stderr


def test_a_name_that_is_not_utf8_costs_only_its_frames(finished: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / os.fsdecode(b"caf\xe9.mp4"), num_frames=20)
    picture = tmp_path / "a.png"
    (found,) = tb.predict(finished, [video], png=picture, device="cpu").predictions
    assert found.video == rf"{tmp_path}/caf\xe9.mp4"
    assert picture.is_file()


def test_wrong_arguments_are_one_line(finished: Path, stored: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"junk")
    classifier = tb.load_classifier(finished, device="cpu")
    for call, message in (
        (lambda: classifier.predict(stored, every_s=0), "every is 0"),
        (lambda: classifier.predict(stored, every_s=float("nan")), "every is nan"),
        (lambda: classifier.predict(stored, clips=0), "clips is 0"),
        (lambda: classifier.predict(stored, every_s=1, clips=0), "clips is 0"),
        (lambda: classifier.predict(stored, engine="dali"), "engine is 'dali'"),
        (lambda: classifier.predict(tmp_path / "none"), "no such file or folder"),
        (lambda: classifier.predict(np.zeros((2, 9, 9, 3), np.uint8), every_s=1), "no rate"),
        (lambda: tb.predict(finished, [stored], top=3), "top is 3, and nothing is written"),
        (lambda: tb.predict(finished, [stored], top=0, csv="a.csv"), "top is 0: give 1 or more"),
        (lambda: tb.predict(finished, []), "videos is empty"),
        (lambda: tb.predict(finished / "invariant", [stored]), "without classes"),
        (lambda: tb.predict(finished, [tmp_path / "bad.mp4"]), "no video could be predicted"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    done = commands.process("predict", finished, tmp_path / "bad.mp4")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no video could be predicted")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("2s", 2), (".5s", 0.5), ("1.5 m", 90), ("1.1h", 3960)]
)
def test_times_have_units(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "s", "0s", "-1", "2x", "1e3", "1:00"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="give a time above 0"):
        seconds(text)
