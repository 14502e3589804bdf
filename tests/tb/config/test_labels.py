"""The section `labels`: which videos its subsets have."""

from dataclasses import replace

import pytest

from loaders import Part, Subset
from tb.config.sections import Labels


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("validation", [0.0, 0.5])
@pytest.mark.parametrize(("percent", "file"), [(50, None), (100, None), (50, "list.txt")])
def test_every_part_is_a_subset(
    part: Part, validation: float, percent: float, file: str | None
) -> None:
    labels = Labels(percent=percent, file=file, seed=3, validation=validation)
    assert labels.subset(part).part == part


def test_a_subset_keeps_what_means_something() -> None:
    labels = Labels(percent=50, seed=3, validation=0.5)
    unlabelled = Subset(part="unlabelled", percent=50, label_seed=3)
    assert labels.subset(Part.UNLABELLED) == unlabelled
    assert labels.subset(Part.LABELLED) == replace(unlabelled, part="labelled", validation=0.5)
    listed = Labels(file="list.txt", seed=3)
    assert listed.subset(Part.LABELLED) == Subset(part="labelled", label_list="list.txt")
