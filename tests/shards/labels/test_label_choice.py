"""A choice of labelled videos: the same from Python as from `tb split`, and written as a list."""

from pathlib import Path

import numpy as np
import pytest

import shards
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.labels.label_list import read_label_list


def test_a_draw_is_written_and_read(manifest: Manifest, tmp_path: Path) -> None:
    choice = shards.draw_labels(manifest, 40, seed=1)
    assert choice.name == "labelled-40pct-train1-seed1"
    assert (
        choice.title
        == f"4 labelled of 10 videos in train split 1 of {manifest.name} (40 %, seed 1)"
    )
    assert choice.num_per_class() == {"jump": 2, "spin": 2}
    assert choice.shared_groups() == []
    path = choice.write(tmp_path / "list.txt")
    assert (read_label_list(path, manifest) == choice.labelled).all()
    assert choice.write(path) == path
    again = shards.labels_from_list(manifest, path)
    assert (again.labelled == choice.labelled).all()
    assert (again.name, again.source) == ("labelled-list", "from list.txt")
    assert (again.unmatched, again.contradicted) == ((), ())
    with pytest.raises(InputError, match="holds another list"):
        shards.draw_labels(manifest, 40, seed=2).write(path)


def test_draws_of_one_seed_are_nested(manifest: Manifest) -> None:
    small, large = (shards.draw_labels(manifest, percent).labelled for percent in (20, 60))
    assert set(np.flatnonzero(small)) < set(np.flatnonzero(large))


def test_a_choice_that_is_impossible_is_refused(manifest: Manifest) -> None:
    for arguments, problem in (
        ({"split": "test"}, "has no videos"),
        ({"split": "trian"}, "split is 'trian': choose one of train, val, test, pool"),
        ({"split_number": 2}, "choose 1 to 1"),
        ({"whole_groups": True}, "no groups are known"),
    ):
        with pytest.raises(InputError, match=problem):
            shards.draw_labels(manifest, 10, **arguments)  # type: ignore[arg-type]
    for argument, problem in (({"seed": 3}, "seed 3"), ({"whole_groups": True}, "whole_groups")):
        with pytest.raises(InputError, match=f"{problem} decides nothing with 100 percent"):
            shards.draw_labels(manifest, 100, **argument)  # type: ignore[arg-type]
