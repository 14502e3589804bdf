"""The kinds that steer the method: stages, teachers, target weights, distances, reductions.

Each list is kept here and nowhere else. A kind's value is its name in settings and on the command
line. The value of a stage is also the name of its folder in a work folder:

    WORK/invariant  distinctive  tclr                      phase 1, self-supervised
    WORK/finetune-invariant  finetune-distinctive          phase 2, on the labelled videos
    WORK/student                                           phase 3
    WORK/supervised  pseudo-label  fixmatch  mean-teacher  baselines, also phase 3
"""

from enum import StrEnum

FROM_SCRATCH = "scratch"
"""The value of `student.init` for an untrained start."""
_FINETUNE = "finetune-"


class Reduction(StrEnum):
    """How L_D1 is reduced over the anchors of a video and the videos of a batch."""

    MEAN = "mean"
    SUM = "sum"
    ANCHOR_SUM = "anchor-sum"


class Distance(StrEnum):
    """The distance between two distributions over the classes."""

    L2 = "l2"
    KL = "kl"
    JS = "js"


class StageKind(StrEnum):
    """A stage of the method or a baseline."""

    INVARIANT = "invariant"
    DISTINCTIVE = "distinctive"
    TCLR = "tclr"
    FINETUNE_INVARIANT = "finetune-invariant"
    FINETUNE_DISTINCTIVE = "finetune-distinctive"
    SUPERVISED = "supervised"
    STUDENT = "student"
    PSEUDO_LABEL = "pseudo-label"
    FIXMATCH = "fixmatch"
    MEAN_TEACHER = "mean-teacher"

    @property
    def phase(self) -> int:
        """1 (self-supervised), 2 (fine-tuning) or 3; stages of one phase do not need each other."""
        if self in SELF_SUPERVISED:
            return 1
        return 2 if self in FINETUNED else 3

    @property
    def full_name(self) -> str:
        """Its name on pages, in tables and in the command line's results."""
        return _TITLES[self]

    @property
    def result_name(self) -> str:
        """Its name in result.json: "supervised", "invariant", "distinctive", "student", ..."""
        return self.value.removeprefix(_FINETUNE)

    @property
    def is_classifier(self) -> bool:
        """Whether it trains a classifier, which ends in an accuracy."""
        return self.phase > 1

    def needs(self, teachers: "TeacherWeights", init: str) -> tuple["StageKind", ...]:
        """The stages that must be trained before this one.

        Args:
            teachers: The setting `student.teachers`.
            init: The setting `student.init`.
        """
        if self.phase == 2:
            return tuple(teacher.pretrained for teacher in Teacher if teacher.finetuned is self)
        if self.phase == 1 or self is StageKind.SUPERVISED:
            return ()
        start = tuple(kind for kind in SELF_SUPERVISED if kind == init)
        if self is StageKind.STUDENT:
            return (*(teacher.finetuned for teacher in teachers.used), *start)
        return start


_TITLES = {
    StageKind.INVARIANT: "invariant teacher",
    StageKind.DISTINCTIVE: "distinctive teacher",
    StageKind.TCLR: "TCLR",
    StageKind.FINETUNE_INVARIANT: "invariant teacher, fine-tuned",
    StageKind.FINETUNE_DISTINCTIVE: "distinctive teacher, fine-tuned",
    StageKind.SUPERVISED: "supervised only, same labels",
    StageKind.STUDENT: "student",
    StageKind.PSEUDO_LABEL: "pseudo-label",
    StageKind.FIXMATCH: "FixMatch on clips",
    StageKind.MEAN_TEACHER: "Mean Teacher",
}
SELF_SUPERVISED = (StageKind.INVARIANT, StageKind.DISTINCTIVE, StageKind.TCLR)
FINETUNED = (StageKind.FINETUNE_INVARIANT, StageKind.FINETUNE_DISTINCTIVE)
BASELINES = (StageKind.PSEUDO_LABEL, StageKind.FIXMATCH, StageKind.MEAN_TEACHER)
"""The semi-supervised baselines."""
COMPARED = (StageKind.SUPERVISED, *FINETUNED, StageKind.STUDENT)
"""The classifiers that `tb train all` evaluates and its report compares; the student is last."""


class Teacher(StrEnum):
    """One of the student's two teachers."""

    INVARIANT = "invariant"
    DISTINCTIVE = "distinctive"

    @property
    def pretrained(self) -> StageKind:
        """The stage that trains it without labels."""
        return StageKind(self.value)

    @property
    def finetuned(self) -> StageKind:
        """The stage that makes it a classifier."""
        return StageKind(f"{_FINETUNE}{self.value}")


class TeacherWeights(StrEnum):
    """The setting `student.teachers`: how the two teachers are weighted."""

    SIMILARITY = "similarity"
    STRETCHED = "stretched"
    CALIBRATED = "calibrated"
    EQUAL = "equal"
    INVARIANT = "invariant"
    DISTINCTIVE = "distinctive"
    ORACLE = "oracle"

    @property
    def reads_hidden_labels(self) -> bool:
        """Whether it reads labels that training does not have; such a rule is for analysis only."""
        return self is TeacherWeights.ORACLE

    @property
    def used(self) -> tuple[Teacher, ...]:
        """The teachers whose weight is not 0."""
        alone = tuple(teacher for teacher in Teacher if teacher.value == self.value)
        return alone or tuple(Teacher)

    @property
    def invariant_share(self) -> float | None:
        """The invariant teacher's weight, or None where each video has its own."""
        shares = {
            TeacherWeights.EQUAL: 0.5,
            TeacherWeights.INVARIANT: 1.0,
            TeacherWeights.DISTINCTIVE: 0.0,
        }
        return shares.get(self)
