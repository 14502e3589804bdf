"""The rows that a subset serves, and the error where it has none."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.subset import Part, Subset
from shards.errors import InputError
from shards.format.manifest import Manifest


def test_the_default_is_the_whole_train_split(numbered_shards: Manifest) -> None:
    np.testing.assert_array_equal(Subset().rows(numbered_shards), np.arange(11))


@pytest.mark.parametrize("percent", [10.0, 50.0, 80.0])
def test_labelled_and_unlabelled_make_the_whole(numbered_shards: Manifest, percent: float) -> None:
    labelled = Subset(part="labelled", percent=percent).rows(numbered_shards)
    unlabelled = Subset(part="unlabelled", percent=percent).rows(numbered_shards)
    both = np.concatenate([labelled, unlabelled])
    np.testing.assert_array_equal(np.sort(both), np.arange(11))
    assert set(numbered_shards.labels[labelled]) == {0, 1}


@given(seed=st.integers(0, 99), small=st.integers(1, 50), more=st.integers(0, 50))
def test_fractions_are_nested(numbered_shards: Manifest, seed: int, small: int, more: int) -> None:
    fewer, many = (
        Subset(part="labelled", percent=percent, label_seed=seed if percent < 100 else 0).rows(
            numbered_shards
        )
        for percent in (small, small + more)
    )
    assert set(fewer) <= set(many)


@pytest.mark.parametrize(
    ("subset", "reason"),
    [
        (Subset(split="test"), "no videos in split 'test'"),
        (Subset(split_number=2), "split number 2"),
        (Subset(part="unlabelled"), "no unlabelled videos in split 'train'"),
        (Subset(part="labelled", percent=0), "above 0"),
        (Subset(part="validation"), "no validation videos in split 'train'"),
    ],
)
def test_an_empty_subset_is_an_error(
    numbered_shards: Manifest, subset: Subset, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        subset.rows(numbered_shards)


def test_a_label_list_says_who_is_labelled(numbered_shards: Manifest, tmp_path: Path) -> None:
    named = [numbered_shards.video(row) for row in (1, 4, 9)]
    path = tmp_path / "list.txt"
    lines = [f"{v.source} {v.num_frames} {v.label}" for v in named]
    path.write_text("\n".join(lines) + "\n")
    labelled = Subset(part="labelled", label_list=path).rows(numbered_shards)
    unlabelled = Subset(part="unlabelled", label_list=str(path)).rows(numbered_shards)
    np.testing.assert_array_equal(labelled, [1, 4, 9])
    np.testing.assert_array_equal(np.sort([*labelled, *unlabelled]), np.arange(11))


def test_a_label_list_that_does_not_fit_is_named(numbered_shards: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("Diving/v_Diving_g01_c01 100 0\n")
    with pytest.raises(InputError, match=r"list\.txt"):
        Subset(part="labelled", label_list=path).rows(numbered_shards)


def test_a_wrong_part_is_named() -> None:
    with pytest.raises(InputError, match="part is 'some': choose one of all, labelled, validation"):
        Subset(part="some")


@given(seed=st.integers(0, 99), percent=st.floats(1, 100), share=st.floats(0, 1, exclude_max=True))
def test_what_is_held_out_comes_from_the_labelled_alone(
    numbered_shards: Manifest, seed: int, percent: float, share: float
) -> None:
    def rows(part: Part, share: float) -> set[int]:
        label_seed = seed if percent != 100 or share else 0
        subset = Subset(part=part, percent=percent, label_seed=label_seed, validation=share)
        try:
            return set(subset.rows(numbered_shards).tolist())
        except InputError:
            return set()

    kept, held_out = rows(Part.LABELLED, share), rows(Part.VALIDATION, share)
    assert kept.isdisjoint(held_out)
    assert kept | held_out == rows(Part.LABELLED, 0.0)
    assert (kept | held_out).isdisjoint(rows(Part.UNLABELLED, 0.0))
    for label in (0, 1):
        of_class = {row for row in kept | held_out if numbered_shards.labels[row] == label}
        left = len(of_class & kept)
        assert left == max(1, math.floor(len(of_class) * (100 * (1 - share)) / 100 + 0.5))


def test_groups_are_held_out_whole(numbered_shards: Manifest) -> None:
    groups = [f"g{row // 2}" for row in range(len(numbered_shards))]
    column = numbered_shards.table.schema.get_field_index("group")
    table = numbered_shards.table.set_column(column, "group", pa.array(groups))
    grouped = replace(numbered_shards, table=table)
    parts = {
        part: Subset(part=part, validation=0.4).rows(grouped) for part in ("labelled", "validation")
    }
    assert len(parts["validation"])
    classes_of = {label: np.flatnonzero(grouped.labels == label) for label in (0, 1)}
    for rows in classes_of.values():
        held = {part: {groups[row] for row in set(rows) & set(parts[part])} for part in parts}
        assert held["labelled"].isdisjoint(held["validation"])


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_is_named(share: float) -> None:
    with pytest.raises(InputError, match="give a share from 0 to below 1"):
        Subset(validation=share)
