"""The lists of stages, and what each stage needs."""

import pytest

from tb.stage_kinds import (
    BASELINES,
    COMPARED,
    FINETUNED,
    SELF_SUPERVISED,
    StageKind,
    Teacher,
    TeacherWeights,
)


def test_every_stage_is_in_one_phase_and_needs_earlier_phases_only() -> None:
    assert {*SELF_SUPERVISED, *FINETUNED, *BASELINES, *COMPARED} == set(StageKind)
    for kind in StageKind:
        assert kind.is_classifier == (kind not in SELF_SUPERVISED)
        for weights in TeacherWeights:
            for init in ("scratch", "file.pt", *SELF_SUPERVISED):
                assert all(other.phase < kind.phase for other in kind.needs(weights, init))


@pytest.mark.parametrize(
    ("kind", "init", "needed"),
    [
        (StageKind.TCLR, "tclr", []),
        (StageKind.FINETUNE_DISTINCTIVE, "tclr", ["distinctive"]),
        (StageKind.SUPERVISED, "tclr", []),
        (StageKind.FIXMATCH, "tclr", ["tclr"]),
        (StageKind.MEAN_TEACHER, "weights.pt", []),
        (StageKind.STUDENT, "scratch", ["finetune-invariant", "finetune-distinctive"]),
        (StageKind.STUDENT, "tclr", ["finetune-invariant", "finetune-distinctive", "tclr"]),
    ],
)
def test_what_a_stage_needs(kind: StageKind, init: str, needed: list[str]) -> None:
    assert list(kind.needs(TeacherWeights.SIMILARITY, init)) == needed


def test_one_teacher_alone_needs_no_other() -> None:
    for teacher in Teacher:
        weights = TeacherWeights(teacher.value)
        assert weights.used == (teacher,)
        assert StageKind.STUDENT.needs(weights, "scratch") == (teacher.finetuned,)
    assert [x.invariant_share for x in TeacherWeights] == [None, None, None, 0.5, 1.0, 0.0, None]
