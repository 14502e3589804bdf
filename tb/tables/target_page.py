"""What the students of several work folders learn from: means over the folders, as one page."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from shards.errors import InputError
from tb.method.target_quality import TargetQuality
from tb.method.teacher_inspection import TeacherInspection
from tb.reports.teacher_charts import CLASS_RULES, RULE_NAMES, caption
from tb.stage_kinds import Teacher, TeacherWeights
from tb.tables.markdown import table_lines
from tb.tables.statistics import Estimate, estimate

_TEACHERS = {teacher: RULE_NAMES[TeacherWeights(teacher.value)] for teacher in Teacher}
_INTRODUCTION = (
    "How often the label of a training video is the most probable class of each target, in percent:"
    " means over {num} work folders, with 95 % intervals from three folders on."
)


def target_page(found: Mapping[Path, TeacherInspection], command: str) -> str:
    """The page, in Markdown.

    Args:
        found: Work folder -> its inspection, 1 or more, of the same data set and the same parts.
        command: The command that gives the same.

    Raises:
        InputError: A folder has parts or classes that another does not have.
    """
    parts = _parts(found)
    shares = [target_shares(each) for each in parts]
    text = ["# What the students learn from", "", _INTRODUCTION.format(num=len(found)), ""]
    text += ["```", command, "```", ""]
    text += table_lines(
        ("right, %", *(caption(each[0]).replace("\n", " ") for each in parts)),
        ([name, *(str(each[name]) for each in shares)] for name in shares[0]),
    )
    for each in parts:
        text += ["", f"By class, {each[0].part} videos:", ""]
        text += table_lines(
            ("class", *(RULE_NAMES[rule] for rule in CLASS_RULES)), _class_rows(each)
        )
    return "\n".join(text) + "\n"


def target_shares(parts: Sequence[TargetQuality]) -> dict[str, Estimate]:
    """How often each target is right, in percent, over work folders.

    Args:
        parts: The same part of the training videos of each work folder, 1 or more.

    Returns:
        Every rule; how often only one teacher is right; the calibrated mixture minus each teacher.
    """
    shares = {name: [part.right[rule] for part in parts] for rule, name in RULE_NAMES.items()}
    shares["the invariant teacher alone"] = [
        sum(each.invariant_right for each in part.score_bins) / part.num_videos for part in parts
    ]
    shares["the distinctive teacher alone"] = [
        sum(each.distinctive_right for each in part.score_bins) / part.num_videos for part in parts
    ]
    for teacher, name in _TEACHERS.items():
        shares[f"calibrated minus the {name}"] = [
            part.right[TeacherWeights.CALIBRATED] - part.right[teacher] for part in parts
        ]
    return {name: _percent(each) for name, each in shares.items()}


def _parts(found: Mapping[Path, TeacherInspection]) -> list[list[TargetQuality]]:
    """Each part of the training videos, as each work folder judged it."""
    (first, of_first), *others = (
        (work, {part.part: part for part in inspection.parts}) for work, inspection in found.items()
    )
    for work, of_work in others:
        if of_work.keys() != of_first.keys():
            raise InputError(
                f"{work}: it has {', '.join(of_work)} videos that can be judged, and {first} has"
                f" {', '.join(of_first)}: give folders with the same settings"
            )
    return [[of_first[part], *(of_work[part] for _, of_work in others)] for part in of_first]


def _class_rows(parts: Sequence[TargetQuality]) -> Iterable[list[str]]:
    """A row for each class, over the folders that have a video of it."""
    names = dict.fromkeys(each.name for part in parts for each in part.classes)
    for name in names:
        own = [each for part in parts for each in part.classes if each.name == name]
        yield [name, *(str(_percent([each.right[rule] for each in own])) for rule in CLASS_RULES)]


def _percent(values: Sequence[float]) -> Estimate:
    return estimate([100 * value for value in values])
