"""The paper's tables as data: what each row trains, and the numbers that were published.

Source: TimeBalance (Dave, Rizve, Chen and Shah, CVPR 2023), main table and supplement, tables 1 and
2; "prior best" as listed there. Top-1 in percent on split 1; None where the paper has no number.
"""

from dataclasses import dataclass, field, replace

from tb.stage_kinds import BASELINES, FINETUNED, FROM_SCRATCH, Distance, StageKind, TeacherWeights

Percents = dict[float, float]  # percentage of labels -> top-1 in percent


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One line of a table.

    Attributes:
        name: Its name for --rows, and the folder of the stage that it trains.
        title: Its title in the table.
        kind: The stage whose accuracy it shows.
        overrides: The settings in which it differs from the preset.
        paper: Published numbers: (data set, backbone) -> percentage of labels -> top-1.
        only_named: Whether it is run only if --rows names it.
    """

    name: str
    title: str
    kind: StageKind = StageKind.STUDENT
    overrides: tuple[str, ...] = ()
    paper: dict[tuple[str, str], Percents] = field(default_factory=dict)
    only_named: bool = False


_UCF, _HMDB, _K400 = "ucf101", "hmdb51", "kinetics400"
PERCENTS: dict[str, tuple[float, ...]] = {
    _UCF: (1, 5, 10, 20, 50),
    _HMDB: (40, 50, 60),
    _K400: (1, 10),
}
BACKBONES = {"r50": "slow_r50", "r18": "r3d_18"}

_MAIN: dict[tuple[str, str], Percents] = {
    (_UCF, "r50"): {1: 30.1, 5: 53.5, 10: 81.1, 20: 83.3, 50: 85.0},
    (_HMDB, "r50"): {40: 52.6, 50: 53.9, 60: 54.5},
    (_K400, "r50"): {1: 19.6, 10: 61.2},
    (_UCF, "r18"): {1: 29.1, 5: 47.9, 10: 69.8, 20: 79.1, 50: 83.3},
    (_HMDB, "r18"): {40: 49.8, 50: 51.4, 60: 53.1},
    (_K400, "r18"): {1: 17.1, 10: 54.9},
}
_SCRATCH: dict[tuple[str, str], Percents] = {
    (_UCF, "r50"): {5: 53.1, 20: 83.0},
    (_HMDB, "r50"): {40: 52.1, 60: 54.3},
    (_K400, "r50"): {10: 60.8},
    (_UCF, "r18"): {5: 46.7, 20: 78.2},
    (_HMDB, "r18"): {40: 49.1, 60: 52.9},
    (_K400, "r18"): {10: 54.4},
}


def _stage_row(kind: StageKind) -> TableRow:
    """The row of a stage with the preset's settings."""
    return TableRow(name=kind.value, title=kind.full_name, kind=kind)


SUPERVISED = _stage_row(StageKind.SUPERVISED)
# Rows of the paper's method have the paper's target, even if the preset has another.
_PAPERS_TARGET = (f"student.teachers={TeacherWeights.SIMILARITY}",)
TIMEBALANCE = TableRow(
    name="timebalance",
    title="TimeBalance (similarity weights, L2)",
    overrides=_PAPERS_TARGET,
    paper=_MAIN,
)
NO_TEACHERS = TableRow(
    name="no-teachers",
    title="student without teachers (omega = 0)",
    overrides=("student.omega=0",),
)
_BASELINES = (SUPERVISED, *map(_stage_row, BASELINES), NO_TEACHERS)
_TEACHERS = tuple(map(_stage_row, FINETUNED))


def _teachers_row(
    name: str, title: str, teachers: TeacherWeights, *, only_named: bool = False
) -> TableRow:
    overrides = (f"student.teachers={teachers}",)
    return TableRow(name=name, title=title, overrides=overrides, only_named=only_named)


INVARIANT_ONLY = _teachers_row(
    "invariant-only", "student of the invariant teacher alone", TeacherWeights.INVARIANT
)
DISTINCTIVE_ONLY = _teachers_row(
    "distinctive-only", "student of the distinctive teacher alone", TeacherWeights.DISTINCTIVE
)
EQUAL_WEIGHTS = _teachers_row(
    "equal-weights", "student of both, weights fixed at 0.5", TeacherWeights.EQUAL
)
CALIBRATED_WEIGHTS = _teachers_row(
    "calibrated-weights",
    "student of both, similarity calibrated on the labelled videos",
    TeacherWeights.CALIBRATED,
    only_named=True,
)
ORACLE = TableRow(
    name="oracle",
    title="student of the better teacher by the video's label (hidden labels: analysis)",
    overrides=(f"student.teachers={TeacherWeights.ORACLE}", "labels.with_hidden=true"),
    only_named=True,
)
STRETCHED_WEIGHTS = _teachers_row(
    "stretched-weights",
    "student of both, similarity stretched to 0 ... 1",
    TeacherWeights.STRETCHED,
)
_TARGETS = (
    INVARIANT_ONLY,
    DISTINCTIVE_ONLY,
    STRETCHED_WEIGHTS,
    CALIBRATED_WEIGHTS,
    EQUAL_WEIGHTS,
    ORACLE,
)
_DISTANCES = (
    TableRow(
        name="timebalance-kl",
        title="TimeBalance, KL divergence",
        overrides=(*_PAPERS_TARGET, f"student.distance={Distance.KL}"),
        paper={(_UCF, "r50"): {5: 52.62, 20: 82.76, 50: 84.50}},
    ),
    TableRow(
        name="timebalance-js",
        title="TimeBalance, JS divergence",
        overrides=(*_PAPERS_TARGET, f"student.distance={Distance.JS}"),
        paper={(_UCF, "r50"): {5: 50.91, 20: 82.10, 50: 83.94}},
    ),
)
_L2 = TableRow(
    name=TIMEBALANCE.name,
    title="TimeBalance, L2",
    overrides=_PAPERS_TARGET,
    paper={(_UCF, "r50"): {5: 53.48, 20: 83.15, 50: 85.02}},
)


def _started_name(name: str, start: str) -> str:
    return f"{name}-{start}"


def _started(row: TableRow, start: str, paper: dict[tuple[str, str], Percents]) -> TableRow:
    """A row with another start of the student."""
    where = "from scratch" if start == FROM_SCRATCH else "from a TCLR checkpoint"
    return TableRow(
        name=_started_name(row.name, start),
        title=f"{row.title}, {where}",
        kind=row.kind,
        overrides=(*row.overrides, f"student.init={start}"),
        paper=paper,
        only_named=row.only_named,
    )


_STUDENT = TableRow(name=TIMEBALANCE.name, title="TimeBalance", overrides=_PAPERS_TARGET)
_SCRATCH_RIVALS = tuple(_started(_stage_row(kind), FROM_SCRATCH, {}) for kind in BASELINES)
_TCLR_RIVALS = tuple(
    _started(row, StageKind.TCLR, {}) for row in (*map(_stage_row, BASELINES), NO_TEACHERS)
)
_STUDENT_FROM_SCRATCH = _started(_STUDENT, FROM_SCRATCH, _SCRATCH)
_STUDENT_FROM_TCLR = _started(_STUDENT, StageKind.TCLR, _MAIN)
_CALIBRATED_FROM_SCRATCH = _started(CALIBRATED_WEIGHTS, FROM_SCRATCH, {})
# The student from scratch without one part of the method.
_LESS_FROM_SCRATCH = tuple(
    replace(_started(row, FROM_SCRATCH, {}), only_named=True)
    for row in (NO_TEACHERS, INVARIANT_ONLY, DISTINCTIVE_ONLY, EQUAL_WEIGHTS)
)
_ORACLE_FROM_SCRATCH = _started(ORACLE, FROM_SCRATCH, {})

TABLES: dict[str, tuple[TableRow, ...]] = {
    # The method against other ways to use the same labels and videos.
    "main": (*_BASELINES, TIMEBALANCE),
    # What the target is made of: the supplement's table 1 (distances), with the choice of teachers.
    "table1": (*_BASELINES, *_TEACHERS, *_TARGETS, _L2, *_DISTANCES),
    # Where the student starts: the supplement's table 2, with the baselines from either start.
    "table2": (
        SUPERVISED,
        *_SCRATCH_RIVALS,
        *_LESS_FROM_SCRATCH,
        _STUDENT_FROM_SCRATCH,
        _CALIBRATED_FROM_SCRATCH,
        _ORACLE_FROM_SCRATCH,
        *_TCLR_RIVALS,
        _STUDENT_FROM_TCLR,
    ),
}

_WITHOUT_A_PART = (NO_TEACHERS.name, INVARIANT_ONLY.name, DISTINCTIVE_ONLY.name)
_RIVALS_OF_BOTH = (SUPERVISED.name, *BASELINES, *_WITHOUT_A_PART)
_OTHER_WEIGHTS = (STRETCHED_WEIGHTS.name, EQUAL_WEIGHTS.name)
_ALL_FROM_SCRATCH = (
    SUPERVISED.name,
    *(row.name for row in (*_SCRATCH_RIVALS, *_LESS_FROM_SCRATCH)),
)
RIVALS: dict[str, tuple[str, ...]] = {
    # Every other way to use the same labels and videos, and the method without one of its parts or
    # with other weights.
    TIMEBALANCE.name: (*_RIVALS_OF_BOTH, *_OTHER_WEIGHTS),
    CALIBRATED_WEIGHTS.name: (*_RIVALS_OF_BOTH, TIMEBALANCE.name, *_OTHER_WEIGHTS),
    # What the best choice between the teachers would bring in all.
    ORACLE.name: (NO_TEACHERS.name,),
    _ORACLE_FROM_SCRATCH.name: (_started_name(NO_TEACHERS.name, FROM_SCRATCH),),
    _STUDENT_FROM_SCRATCH.name: _ALL_FROM_SCRATCH,
    _CALIBRATED_FROM_SCRATCH.name: (*_ALL_FROM_SCRATCH, _STUDENT_FROM_SCRATCH.name),
    _STUDENT_FROM_TCLR.name: tuple(row.name for row in _TCLR_RIVALS),
}
"""Row -> the rows that it is compared with (`tb.tables.claims`)."""

_PARTS_OF_THE_TARGET = {
    "distillation from the distinctive teacher": (DISTINCTIVE_ONLY.name, NO_TEACHERS.name),
    "the second teacher, half each": (EQUAL_WEIGHTS.name, DISTINCTIVE_ONLY.name),
    "the score in place of half each": (TIMEBALANCE.name, EQUAL_WEIGHTS.name),
    "the score's level, fitted to the labels": (CALIBRATED_WEIGHTS.name, TIMEBALANCE.name),
    "what is left: the better teacher for each video": (ORACLE.name, CALIBRATED_WEIGHTS.name),
}
PARTS: dict[str, tuple[str, str]] = {
    "the self-supervised start": (NO_TEACHERS.name, SUPERVISED.name),
    **_PARTS_OF_THE_TARGET,
    # The same from scratch.
    **{
        f"from scratch, {part}": (
            _started_name(one, FROM_SCRATCH),
            _started_name(other, FROM_SCRATCH),
        )
        for part, (one, other) in _PARTS_OF_THE_TARGET.items()
    },
}
"""Part of the method -> the row with it and the row without it, in the order of adding them.

First the parts that `table1` shows, then those that `table2` shows.
"""
