"""WORK/report.html for people and WORK/result.json for programs, from what the stages left.

The page contains its pictures and styles, so it opens from disk and can be mailed.
"""

import base64
import json
import logging
import math
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from loaders import Part
from shards.counted import counted
from shards.errors import InputError
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.config.differences import Tree
from tb.config.load_config import dump_yaml
from tb.config.sections import Config
from tb.config.work_data import other_data
from tb.evaluation.accuracy import Evaluation, read_evaluation
from tb.evaluation.evaluate import evaluation_source
from tb.method.calibration import CALIBRATION, Calibration, read_calibration
from tb.method.similarity_cache import SIMILARITY, read_similarity
from tb.method.teacher_inspection import INSPECTION, inspection_source, read_inspection
from tb.networks.backbones import backbone_identity
from tb.reports import plots
from tb.reports.teacher_charts import chart_svgs
from tb.reports.view_sheet import png_bytes, view_sheet
from tb.stage_kinds import BASELINES, COMPARED, FINETUNED, StageKind, TeacherWeights
from tb.training.bad_videos import read_bad_list
from tb.training.engine_record import pixels_from, with_engine_of
from tb.training.metrics import METRICS, MetricsRow, read_metrics
from tb.version import __version__

logger = logging.getLogger(__name__)

REPORT, RESULT = "report.html", "result.json"
Evaluated = dict[StageKind, Evaluation]
"""The evaluations of the `COMPARED` classifiers, in their order."""
Metrics = dict[str, list[MetricsRow]]
"""Stage -> its rows, one for each step."""


def write_report(
    manifest: Manifest, config: Config, work: Path, *, seconds: float | None = None
) -> Path:
    """Writes both files.

    Args:
        manifest: The data set.
        config: The settings that the stages ran with.
        work: The work folder, with every classifier evaluated.
        seconds: Wall-clock time of the whole command. None: not known.

    Returns:
        The report's path.

    Raises:
        InputError: A classifier has not been evaluated.
    """
    found = {kind: _evaluation(work / kind, manifest, config) for kind in COMPARED}
    of_the_method = [kind for kind in StageKind if kind not in BASELINES]
    metrics = {kind.value: read_metrics(work / kind / METRICS) for kind in of_the_method}
    metrics = {name: rows for name, rows in metrics.items() if rows}
    num_bad = {name: len(read_bad_list(work / name)) for name in metrics}
    used = with_engine_of(work / StageKind.STUDENT, manifest, config)
    result = result_tree(manifest, used, found, metrics, num_bad, seconds)
    publish_bytes(work / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    page = _page(manifest, config, work, result, found, metrics)
    publish_bytes(work / REPORT, page.encode())
    return work / REPORT


def _evaluation(folder: Path, manifest: Manifest, config: Config) -> Evaluation:
    split = config.evaluation.split
    found = read_evaluation(folder / f"eval-{split}.json")
    if found is None:
        raise InputError(f"{folder}: not evaluated on {split!r}; run `tb eval {folder.name}` first")
    if found.source != evaluation_source(folder, manifest, config):
        remedy = other_data(manifest, str(found.source["data"]))
        raise InputError(
            f"{folder}: evaluated with other settings, data or weights;"
            f" {remedy or f'run `tb eval {folder.name}` again'}"
        )
    return found


def result_tree(
    manifest: Manifest,
    config: Config,
    found: Evaluated,
    metrics: Metrics,
    num_bad: dict[str, int],
    seconds: float | None,
) -> Tree:
    """The content of result.json; accuracies in [0, 1].

    Args:
        manifest: The data set.
        config: The settings that the stages ran with.
        found: The evaluations.
        metrics: The rows of each stage.
        num_bad: Stage -> how many videos were bad in it.
        seconds: Wall-clock time of the whole command. None: not known.
    """
    labels = config.labels
    return {
        "seed": config.machine.seed,
        "seconds": None if seconds is None else round(seconds, 1),
        "chance_top1": 1 / len(manifest.classes),
        **{f"{kind.result_name}_top1": evaluation.top1 for kind, evaluation in found.items()},
        **{f"{kind.result_name}_top5": evaluation.top5 for kind, evaluation in found.items()},
        "num_videos": {
            "train": len(labels.subset(Part.ALL).rows(manifest)),
            "labelled": len(labels.subset(Part.LABELLED).rows(manifest)),
            "validation": len(labels.subset(Part.VALIDATION).rows(manifest))
            if labels.validation
            else 0,
            "test": found[StageKind.STUDENT].num_videos,
        },
        "test_split": config.evaluation.split,
        "num_peeks": {kind.result_name: evaluation.num_peeks for kind, evaluation in found.items()},
        "num_padded_windows": {name: _total(rows, "num_padded") for name, rows in metrics.items()},
        "num_bad_videos": num_bad,
        "data_wait_fraction": round(_wait_fraction(*metrics.values()), 4),
        "engine": pixels_from(config.machine.engine, config.machine.dali_views),
        "backbone": backbone_identity(config.backbone),
        "labels_percent": None if labels.file else labels.percent,
        "data_digest": manifest.digest,
    }


def _total(rows: list[MetricsRow], name: str) -> int:
    return int(sum(row[name] for row in rows))


def _wait_fraction(*runs: list[MetricsRow]) -> float:
    """The share of all steps' time that was spent waiting for data."""
    rows = [row for run in runs for row in run]
    return sum(row["data_wait_s"] for row in rows) / sum(row["step_s"] for row in rows)


def _page(
    manifest: Manifest,
    config: Config,
    work: Path,
    result: Tree,
    found: Evaluated,
    metrics: Metrics,
) -> str:
    environment = Environment(
        loader=PackageLoader("tb"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sheet = png_bytes(view_sheet(manifest, config))
    is_calibrated = config.student.teachers is TeacherWeights.CALIBRATED
    calibration = read_calibration(work / StageKind.STUDENT) if is_calibrated else None
    return environment.get_template(REPORT).render(
        name=manifest.name,
        version=__version__,
        result=result,
        split=config.evaluation.split,
        num_test=found[StageKind.STUDENT].num_videos,
        num_peeks=sum(evaluation.num_peeks for evaluation in found.values()),
        num_classes=len(manifest.classes),
        rows=_accuracy_rows(found),
        verdict=verdict(found),
        compared=[kind.result_name for kind in found],
        class_rows=[
            (name, [e.class_top1[label] for e in found.values()])
            for label, name in enumerate(manifest.classes)
        ],
        stage_rows=_stage_rows(metrics, result["num_bad_videos"]),
        curves=plots.training_curves(metrics),
        spread=_similarity_plot(manifest, work),
        weights_note=weights_note(config.student.teachers, calibration),
        calibration=calibration,
        inspection=_inspection(manifest, config, work),
        sheet=base64.b64encode(sheet).decode(),
        settings=dump_yaml(config),
    )


def _accuracy_rows(found: Evaluated) -> list[Tree]:
    return [
        {"title": kind.full_name, "top1": e.top1, "top5": e.top5, "error": _error(e)}
        for kind, e in found.items()
    ]


def _stage_rows(metrics: Metrics, num_bad: dict[str, int]) -> list[Tree]:
    return [
        {
            "name": name,
            "steps": len(rows),
            "videos_per_s": np.median([row["videos_per_s"] for row in rows]),
            "wait": _wait_fraction(rows),
            "padded": _total(rows, "num_padded"),
            "num_bad": num_bad[name],
        }
        for name, rows in metrics.items()
    ]


def _similarity_plot(manifest: Manifest, work: Path) -> str | None:
    """The scores of each class as a chart; None where no scores were computed."""
    scores = read_similarity(work / SIMILARITY, manifest)
    if scores is None:
        return None
    rows = np.flatnonzero(~scores.isnan().numpy())
    return plots.similarity_boxes(scores.numpy()[rows], manifest.labels[rows], manifest.classes)


def _inspection(manifest: Manifest, config: Config, work: Path) -> Tree | None:
    """The charts of `tb inspect teachers`; None where it has not run on these weights."""
    try:
        found = read_inspection(work)
        if found is None:
            return None
        source = inspection_source(manifest, config, work, with_hidden_labels=found.hidden_labels)
    except InputError as error:  # a teacher is missing; nothing else here needs it
        logger.warning("%s is not shown: %s", work / INSPECTION, error)
        return None
    if found.source != source:
        logger.warning("%s is of other weights or settings, so it is not shown", work / INSPECTION)
        return None
    return {"charts": chart_svgs(found), "hidden_labels": found.hidden_labels}


def weights_note(rule: TeacherWeights, calibration: Calibration | None) -> str:
    """How the student's weights follow from the scores, in one sentence."""
    if rule is TeacherWeights.SIMILARITY:
        return "It is the weight of the invariant teacher for each video."
    if rule is TeacherWeights.STRETCHED:
        return "Stretched to 0 ... 1, it is the weight of the invariant teacher for each video."
    if rule is not TeacherWeights.CALIBRATED:
        return f"This student does not use it: student.teachers is {rule.value!r}."
    if calibration is None:
        return f"How the weights follow from it is not known: the student has no {CALIBRATION}."
    fitted = f"fitted to {calibration.num_videos} labelled videos (slope 1, offset 0: w = s)"
    return (
        f"The weight of the invariant teacher is w = {calibration.formula}, "
        f"{calibration.warning or fitted}."
    )


def _error(evaluation: Evaluation) -> float:
    """The standard error of top-1, taking the videos as independent."""
    share = evaluation.top1
    return math.sqrt(share * (1 - share) / evaluation.num_videos)


def verdict(found: Evaluated) -> str:
    """The student against the others in one sentence, with the standard error."""
    student = found[StageKind.STUDENT]
    noise = math.hypot(_error(student), _error(found[StageKind.SUPERVISED]))
    parts = []
    for kind in COMPARED[:-1]:
        name = kind.result_name
        title = f"{name} teacher" if kind in FINETUNED else f"{name}-only baseline"
        gap = student.top1 - found[kind].top1
        word = "above" if gap > 0 else "below" if gap < 0 else "level with"
        size = f"{abs(gap) * 100:.1f} points " if gap else ""
        parts.append(f"{size}{word} the {title}")
    return (
        f"The student is {parts[0]}, {parts[1]} and {parts[2]}. One seed,"
        f" {counted(student.num_videos, 'video')}: the standard error of such a difference is about"
        f" {noise * 100:.1f} points, so gaps under {2 * noise * 100:.0f} points are not evidence."
    )
