import json
import re
import shutil
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import open_loader
from loaders.loader_process.process_producer import ProcessProducer
from loaders.producer import LocalProducer
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.accuracy import Evaluation
from tb.evaluation.evaluate import evaluate
from tb.method.calibration import CALIBRATION, Calibration
from tb.method.streams import pretrain_views
from tb.method.teacher_inspection import INSPECTION, inspect_teachers, write_inspection
from tb.reports.report import verdict, weights_note, write_report
from tb.reports.view_sheet import _loader as view_sheet_loader
from tb.reports.view_sheet import view_sheet
from tb.stage_kinds import StageKind, TeacherWeights
from tb.weights.checkpoint import CHECKPOINT


class Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"src", "href", "xlink:href"}
        self.found += [value or "" for name, value in attrs if name in wanted]


@pytest.fixture(scope="module")
def report(
    finished: Path, manifest: Manifest, config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    work = tmp_path_factory.mktemp("report") / "work"
    shutil.copytree(finished, work)
    return write_report(manifest, config, work, seconds=12.34)


def test_result_holds_every_promised_entry(report: Path, manifest: Manifest) -> None:
    result = json.loads((report.parent / "result.json").read_text())
    assert result["chance_top1"] == pytest.approx(1 / 12)
    for name in ("supervised", "invariant", "distinctive", "student"):
        assert 0 <= result[f"{name}_top1"] <= 1
    assert result["num_videos"] == {
        "train": 24,
        "labelled": 12,
        "validation": 0,
        "test": 12,
    }
    assert set(result["num_peeks"].values()) == {0}
    assert 0 <= result["data_wait_fraction"] <= 1
    assert (result["engine"], result["backbone"]) == ("fused", "small")
    assert (result["seed"], result["seconds"]) == (0, 12.3)
    assert result["data_digest"] == manifest.digest


def test_a_second_look_at_the_test_list_is_told(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "work")
    said = "Readings of it beside the one that counts"
    assert said not in write_report(manifest, config, tmp_path / "work").read_text()
    evaluation = config.evaluation.model_copy(update={"num_clips": 1})
    other = config.model_copy(update={"evaluation": evaluation})
    evaluate("student", manifest, other, tmp_path / "work", peek=True)
    evaluate("student", manifest, config, tmp_path / "work")
    page = write_report(manifest, config, tmp_path / "work").read_text()
    assert re.search(said + r" \(--peek-test\):\s+1\.", page)
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert result["num_peeks"] == {
        "supervised": 0,
        "invariant": 0,
        "distinctive": 0,
        "student": 1,
    }


def test_page_needs_nothing_but_itself(report: Path, manifest: Manifest) -> None:
    page = report.read_text()
    links = Links()
    links.feed(page)
    assert links.found
    assert all(link.startswith(("data:", "#")) for link in links.found)
    for name in manifest.classes:
        assert name in page
    for stage in ("invariant", "distinctive", "finetune-invariant", "supervised", "student"):
        assert f"<td>{stage}</td>" in page
    assert len(re.findall(r"<svg", page)) == 2


def test_same_run_gives_the_same_page(report: Path, manifest: Manifest, config: Config) -> None:
    before = report.read_text()
    write_report(manifest, config, report.parent, seconds=12.34)
    assert report.read_text() == before


def test_other_settings_than_those_evaluated_are_refused(
    report: Path, manifest: Manifest, config: Config
) -> None:
    settings = config.evaluation.model_copy(update={"num_clips": 3})
    with pytest.raises(InputError, match="evaluated with other settings, data or weights"):
        write_report(manifest, config.model_copy(update={"evaluation": settings}), report.parent)


def outcome(stage: str, top1: float) -> Evaluation:
    return Evaluation(
        stage=stage,
        split="test",
        classes=[],
        num_videos=100,
        top1=top1,
        top5=1.0,
        class_top1=[],
        confusion=[],
        source={},
    )


def test_verdict_does_not_flatter() -> None:
    top1 = {
        StageKind.SUPERVISED: 0.5,
        StageKind.FINETUNE_INVARIANT: 0.4,
        StageKind.FINETUNE_DISTINCTIVE: 0.3,
        StageKind.STUDENT: 0.4,
    }
    found = {kind: outcome(kind, share) for kind, share in top1.items()}
    text = verdict(found)
    assert "10.0 points below the supervised-only baseline" in text
    assert "level with the invariant teacher" in text
    assert "10.0 points above the distinctive teacher" in text
    assert "about 7.0 points" in text


def fitted(warning: str = "", right: dict[str, float] | None = None) -> Calibration:
    return Calibration(
        offset=-2.322,
        slope=0.728,
        num_videos=60,
        num_left_out=0,
        num_folds=5,
        warning=warning,
        log_likelihood={"similarity": -2.833},
        right=right or {"similarity": 0.3833},
        source={},
    )


def test_the_page_says_what_the_scores_are_used_for() -> None:
    map_text = "sigmoid(-2.32 + 0.73 logit(s))"
    assert weights_note(TeacherWeights.SIMILARITY, None).startswith("It is the weight of the inv")
    assert "Stretched to 0 ... 1" in weights_note(TeacherWeights.STRETCHED, None)
    assert "does not use it" in weights_note(TeacherWeights.EQUAL, None)
    assert "the student has no calibration.json" in weights_note(TeacherWeights.CALIBRATED, None)
    note = weights_note(TeacherWeights.CALIBRATED, fitted())
    assert f"w = {map_text}, fitted to 60 labelled videos" in note
    note = weights_note(TeacherWeights.CALIBRATED, fitted("too few videos"))
    assert note.endswith(f"{map_text}, too few videos.")


def test_the_page_of_a_calibrated_student_compares_the_rules(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "work")
    (tmp_path / "work" / "student" / CALIBRATION).write_text(json.dumps(asdict(fitted())))
    by_score = config.student.model_copy(update={"teachers": TeacherWeights.SIMILARITY})
    uncalibrated = config.model_copy(update={"student": by_score})
    row = r"<td>similarity</td><td>38.3 %</td>\s*<td>-2.833</td>"
    assert re.search(row, write_report(manifest, config, tmp_path / "work").read_text())
    assert not re.search(row, write_report(manifest, uncalibrated, tmp_path / "work").read_text())


def test_the_page_shows_an_inspection_of_its_own_weights_only(
    finished: Path,
    manifest: Manifest,
    config: Config,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    write_inspection(work, inspect_teachers(manifest, config, work, with_hidden_labels=True))
    page = write_report(manifest, config, work).read_text()
    assert len(re.findall(r"<svg", page)) == 7
    assert "judged by labels that training does not" in page
    other = json.loads((work / INSPECTION).read_text())
    other["source"]["labelled"]["labelled"] = "those of another run"
    (work / INSPECTION).write_text(json.dumps(other))
    page = write_report(manifest, config, work).read_text()
    assert len(re.findall(r"<svg", page)) == 2
    assert "teachers.json is of other weights or settings" in caplog.text
    (work / StageKind.INVARIANT / CHECKPOINT).unlink()
    assert len(re.findall(r"<svg", write_report(manifest, config, work).read_text())) == 2
    assert "teachers.json is not shown" in caplog.text


def test_the_view_sheet_shows_the_first_batch_pixel_by_pixel(
    manifest: Manifest, config: Config
) -> None:
    sheet = np.asarray(view_sheet(manifest, config, num_videos=2))
    loader = open_loader(manifest, pretrain_views(config), batch_size=2, dtype="uint8", seed=0)
    batch = next(iter(loader.batches(0)))
    for video in range(2):
        clips = torch.cat([group[video].flatten(0, -5) for group in batch.views.values()])
        for row, time in ((0, 0), (1, 3), (2, 1), (9, 2)):
            thumb = clips[row, :, time].permute(1, 2, 0).repeat_interleave(2, 0)
            thumb = thumb.repeat_interleave(2, 1).numpy()  # 16 px shown at 32
            assert _appears(thumb, sheet)


def test_the_view_sheet_is_the_same_from_the_loader_process(
    manifest: Manifest, config: Config
) -> None:
    sheets = []
    for in_process, producer in ((True, LocalProducer), (False, ProcessProducer)):
        machine = config.machine.model_copy(update={"in_process": in_process})
        placed = config.model_copy(update={"machine": machine})
        with view_sheet_loader(manifest, placed, 2) as loader:
            assert isinstance(loader.producer, producer)
        sheets.append(view_sheet(manifest, placed, num_videos=2).tobytes())
    assert sheets[0] == sheets[1]


def _appears(thumb: np.ndarray, sheet: np.ndarray) -> bool:
    height, width = thumb.shape[:2]
    corners = (sheet == thumb[0, 0]).all(-1)[: 1 - height, : 1 - width]
    return any(
        np.array_equal(sheet[y : y + height, x : x + width], thumb) for y, x in np.argwhere(corners)
    )
