"""Which stages a stage needs, and which stage comes next."""

from collections.abc import Callable, Iterable
from pathlib import Path

from tb.config.sections import Config
from tb.stage_kinds import StageKind
from tb.weights.checkpoint import CHECKPOINT, load_checkpoint


def needed_stages(
    kinds: Iterable[StageKind],
    config: Config,
    *,
    is_trained: Callable[[StageKind], bool] = lambda kind: False,
) -> list[StageKind]:
    """Some stages and all stages that they need, in the order of their phases.

    Args:
        kinds: The stages that are wanted.
        config: `config.student` says what the student needs.
        is_trained: Whether a stage, and so all that it needs, can be left out.
    """
    needed: dict[StageKind, None] = {}

    def add(kind: StageKind) -> None:
        if not is_trained(kind):
            for other in kind.needs(config.student.teachers, config.student.init):
                add(other)
            needed[kind] = None

    for kind in kinds:
        add(kind)
    return sorted(needed, key=lambda kind: kind.phase)


def next_stage(config: Config, work: Path) -> StageKind | None:
    """The stage of WORK to train next on the way to the student; None if that is trained."""

    def is_trained(kind: StageKind) -> bool:
        checkpoint = work / kind.value / CHECKPOINT
        if not checkpoint.is_file():
            return False
        state = load_checkpoint(checkpoint, mmap=True)
        return bool(state["step"] >= state["steps"])

    return next(iter(needed_stages([StageKind.STUDENT], config, is_trained=is_trained)), None)
