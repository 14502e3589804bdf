"""The paper's tables as data: what each row trains, and the numbers that were published.

Source: TimeBalance (Dave, Rizve, Chen and Shah, CVPR 2023), main table and supplement, tables 1 and
2; "prior best" as listed there. Top-1 in percent on split 1; None where the paper has no number.
"""

from dataclasses import dataclass, field

from tb.stage_kinds import StageKind

Percents = dict[float, float]  # percentage of labels -> top-1 in percent


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        name: For --rows, and the folder of what it trains.
        title: Its title in the table.
        kind: The stage whose accuracy it is.
        overrides: The settings in which it differs from the preset.
        paper: Published numbers: (data set, backbone) -> percentage of labels -> top-1.
    """

    name: str
    title: str
    kind: StageKind = StageKind.STUDENT
    overrides: tuple[str, ...] = ()
    paper: dict[tuple[str, str], Percents] = field(default_factory=dict)


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

SUPERVISED = Row(name="supervised", title="supervised only", kind=StageKind.SUPERVISED)
TIMEBALANCE = Row(name="timebalance", title="TimeBalance (similarity weights, L2)", paper=_MAIN)
_BASELINES = (
    SUPERVISED,
    Row(name="pseudo-label", title="pseudo-label", kind=StageKind.PSEUDO_LABEL),
    Row(name="fixmatch", title="FixMatch on clips", kind=StageKind.FIXMATCH),
    Row(name="mean-teacher", title="Mean Teacher", kind=StageKind.MEAN_TEACHER),
)
_TEACHERS = (
    Row(
        name="finetune-invariant",
        title="invariant teacher, fine-tuned",
        kind=StageKind.FINETUNE_INVARIANT,
    ),
    Row(
        name="finetune-distinctive",
        title="distinctive teacher, fine-tuned",
        kind=StageKind.FINETUNE_DISTINCTIVE,
    ),
)
_TARGETS = (
    Row(
        name="invariant-only",
        title="student of the invariant teacher alone",
        overrides=("student.teachers=invariant",),
    ),
    Row(
        name="distinctive-only",
        title="student of the distinctive teacher alone",
        overrides=("student.teachers=distinctive",),
    ),
    Row(
        name="stretched-weights",
        title="student of both, similarity stretched to 0 ... 1",
        overrides=("student.teachers=stretched",),
    ),
    Row(
        name="equal-weights",
        title="student of both, weights fixed at 0.5",
        overrides=("student.teachers=equal",),
    ),
)
_DISTANCES = (
    Row(
        name="timebalance-kl",
        title="TimeBalance, KL divergence",
        overrides=("student.distance=kl",),
        paper={(_UCF, "r50"): {5: 52.62, 20: 82.76, 50: 84.50}},
    ),
    Row(
        name="timebalance-js",
        title="TimeBalance, JS divergence",
        overrides=("student.distance=js",),
        paper={(_UCF, "r50"): {5: 50.91, 20: 82.10, 50: 83.94}},
    ),
)
_L2 = Row(
    name="timebalance",
    title="TimeBalance, L2",
    paper={(_UCF, "r50"): {5: 53.48, 20: 83.15, 50: 85.02}},
)
_INITS = (
    Row(
        name="timebalance-scratch",
        title="student from scratch",
        overrides=("student.init=scratch",),
        paper=_SCRATCH,
    ),
    Row(
        name="timebalance-tclr",
        title="student from a TCLR checkpoint",
        overrides=("student.init=tclr",),
        paper=_MAIN,
    ),
)

TABLES: dict[str, tuple[Row, ...]] = {
    # The method against other ways to use the same labels and videos.
    "main": (*_BASELINES, TIMEBALANCE),
    # What the target is made of: the supplement's table 1 (distances), with the choice of teachers.
    "table1": (*_BASELINES, *_TEACHERS, *_TARGETS, _L2, *_DISTANCES),
    # Where the student starts: the supplement's table 2.
    "table2": (SUPERVISED, *_INITS),
}
