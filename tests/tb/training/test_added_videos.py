"""If videos are added to the shards of a stopped run, it goes on with the earlier state."""

import shlex
import shutil
from pathlib import Path

import pytest

from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.config.load_config import load_config
from tb.method.similarity_cache import SIMILARITY
from tb.method.stages import build_stage
from tb.stage_kinds import StageKind
from tb.training.loop import train
from tb.weights.checkpoint import CHECKPOINT, file_digest
from tests.make_videos import make_video
from tests.tb.commands import complaint, run
from tests.tb.conftest import QUICK
from tests.tb.steps import StoppedError, stopping_at


def test_a_refused_run_names_the_state_with_which_it_goes_on(
    manifest: Manifest, finished: Path, tmp_path: Path
) -> None:
    shards, work = tmp_path / "shards", tmp_path / "work"
    shutil.copytree(manifest.root, shards)
    config = load_config("demo", QUICK)
    stage = build_stage(StageKind.SUPERVISED, read_manifest(shards), config, work)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 3), work, config)
    make_video(tmp_path / "more" / "train" / "ring" / "new.mp4")
    ingest(from_folder(tmp_path / "more", min_per_class=1), shards, append=True)

    words = ["train", "supervised", "--out", work, "--shards"]
    text = complaint(*words, shards)
    assert f"holds a run with other settings: data was '{manifest.digest}'" in text
    places = shlex.split(text.partition("since then: give ")[2])
    assert places == ["--shards", f"{shards}@{manifest.digest[:16]}"]
    run(*words, places[1])
    assert file_digest(work / "supervised" / CHECKPOINT) == file_digest(
        finished / "supervised" / CHECKPOINT
    )
    # A state that the folder does not hold is not promised.
    shutil.rmtree(shards)
    ingest(from_folder(tmp_path / "more", min_per_class=1), shards)
    assert complaint(*words, shards).endswith("choose another --out, or delete that folder")


def test_a_report_and_a_student_on_more_videos_name_the_state_before(
    manifest: Manifest, finished: Path, tmp_path: Path
) -> None:
    shards, work = tmp_path / "shards", tmp_path / "work"
    shutil.copytree(manifest.root, shards)
    shutil.copytree(finished, work)
    make_video(tmp_path / "more" / "train" / "ring" / "new.mp4")
    ingest(from_folder(tmp_path / "more", min_per_class=1), shards, append=True)
    words = ["report", "--out", work, "--shards"]
    state = f"{shards}@{manifest.digest[:16]}"
    assert complaint(*words, shards).endswith(f"since then: give --shards {state}")
    run(*words, state)
    # A refused student keeps the scores of the state before, which may have taken hours.
    scores = (work / SIMILARITY).read_bytes()
    assert complaint("train", "student", "--out", work, "--shards", shards).endswith(state)
    assert (work / SIMILARITY).read_bytes() == scores
