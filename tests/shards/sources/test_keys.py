"""Keys: unique, short, without dots, and independent of the order of the listing."""

import re

from hypothesis import given
from hypothesis import strategies as st

from shards.sources.keys import MAX_KEY_CHARS, assign_keys

_TEXT = st.text(st.sampled_from("aB-_. é\\x\udcff/"), min_size=1, max_size=6)
_NAMES = st.lists(
    st.tuples(_TEXT, _TEXT, st.uuids().map(str)), min_size=1, max_size=12, unique_by=lambda n: n[2]
)


@given(_NAMES)
def test_keys_are_unique_and_fit_a_tar_header(names: list[tuple[str, str, str]]) -> None:
    keys = assign_keys(names)
    assert len(set(keys)) == len(names)
    assert all(re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_KEY_CHARS}}}", key) for key in keys)


@given(_NAMES, st.randoms())
def test_a_key_does_not_depend_on_the_order(names: list[tuple[str, str, str]], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(names, len(names))
    expected = dict(zip(names, assign_keys(names), strict=True))
    assert dict(zip(shuffled, assign_keys(shuffled), strict=True)) == expected


def test_plain_names_are_kept() -> None:
    names = [("Bow", "v_Bow_g01_c01", "Bow/v_Bow_g01_c01.avi"), ("b", "x", "b/x.mp4")]
    assert assign_keys(names) == ["v_Bow_g01_c01", "x"]


def test_the_class_tells_equal_stems_apart() -> None:
    assert assign_keys([("a", "x", "a/x.mp4"), ("b", "x", "b/x.mp4")]) == ["a_x", "b_x"]


def test_names_too_long_for_a_header_keep_apart() -> None:
    names = [("a", "x" * 200 + str(n), f"a/{n}.mp4") for n in range(2)]
    keys = assign_keys(names)
    assert len(set(keys)) == 2
    assert all(len(key) <= MAX_KEY_CHARS for key in keys)
