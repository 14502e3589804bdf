"""The page of several work folders' targets."""

from pathlib import Path

import pytest

from shards.errors import InputError
from tb.method.target_quality import EITHER, HINDSIGHT, ClassScores, ScoreBin, TargetQuality
from tb.method.teacher_inspection import TeacherInspection
from tb.stage_kinds import TeacherWeights
from tb.tables.target_page import target_page
from tests.tb.calibrations import calibration


def part(
    name: str, *, invariant: float, distinctive: float, calibrated: float, kinds: tuple[str, ...]
) -> TargetQuality:
    """40 videos in two bins of scores. One teacher alone is right on 4 and 10 of them."""
    right = dict.fromkeys([*TeacherWeights, HINDSIGHT, EITHER], 0.5)
    right.update(invariant=invariant, distinctive=distinctive, calibrated=calibrated)
    return TargetQuality(
        part=name,
        hidden_labels=name == "unlabelled",
        judged_by="probes",
        num_videos=40,
        right={str(rule): share for rule, share in right.items()},
        log_likelihood={},
        order=None,
        score_bins=[
            ScoreBin(
                low=0.0,
                high=0.5,
                num_videos=20,
                invariant_right=alone,
                distinctive_right=5,
                neither_right=2,
            )
            for alone in (1, 3)
        ],
        reliability={},
        classes=[
            ClassScores(
                name=kind,
                num_videos=20,
                quantiles=[0.0, 0.1, 0.2, 0.3, 0.4],
                right={
                    "invariant": invariant,
                    "distinctive": distinctive,
                    "similarity": distinctive - 0.2,
                    "calibrated": calibrated,
                },
            )
            for kind in kinds
        ],
    )


def inspection(*parts: TargetQuality) -> TeacherInspection:
    hidden = any(each.hidden_labels for each in parts)
    return TeacherInspection(
        hidden_labels=hidden, calibration=calibration(), parts=list(parts), source={}
    )


def test_every_row_is_a_mean_over_the_folders() -> None:
    shares = ((0.30, 0.60, 0.65), (0.40, 0.70, 0.70), (0.50, 0.80, 0.90))
    found = {
        Path(f"seed-{seed}"): inspection(
            part(
                "labelled",
                invariant=invariant,
                distinctive=distinctive,
                calibrated=calibrated,
                kinds=("jump", "run") if seed else ("run",),
            )
        )
        for seed, (invariant, distinctive, calibrated) in enumerate(shares)
    }
    lines = target_page(found, "tb inspect teachers ...").splitlines()
    # Student's t with two degrees of freedom: 4.303 times the standard error, here 10 / sqrt(3).
    assert "| invariant teacher | 40.0 ± 24.8 |" in lines
    assert "| distinctive teacher | 70.0 ± 24.8 |" in lines
    assert "| mixture by s calibrated | 75.0 ± 32.9 |" in lines
    assert "| calibrated minus the distinctive teacher | 5.0 ± 12.4 |" in lines
    assert "| calibrated minus the invariant teacher | 35.0 ± 12.4 |" in lines
    assert "| the invariant teacher alone | 10.0 ± 0.0 |" in lines
    assert "| the distinctive teacher alone | 25.0 ± 0.0 |" in lines
    names = ("invariant teacher", "distinctive teacher", "mixture by s (the paper's)")
    assert f"| class | {' | '.join(names)} | mixture by s calibrated |" in lines
    assert "| run | 40.0 ± 24.8 | 70.0 ± 24.8 | 50.0 ± 24.8 | 75.0 ± 32.9 |" in lines
    assert "| jump | 45.0 | 75.0 | 55.0 | 80.0 |" in lines  # two folders have it
    assert "hidden labels" not in "".join(lines)


def test_folders_with_other_parts_are_refused() -> None:
    shares = {"invariant": 0.5, "distinctive": 0.5, "calibrated": 0.5, "kinds": ("run",)}
    labelled, unlabelled = (part(name, **shares) for name in ("labelled", "unlabelled"))  # type: ignore[arg-type]
    both = {Path("a"): inspection(labelled, unlabelled)}
    assert "hidden labels, for analysis only" in target_page(both, "tb")
    with pytest.raises(InputError, match=r"b: .*labelled.* a has labelled, unlabelled"):
        target_page({**both, Path("b"): inspection(labelled)}, "tb")
