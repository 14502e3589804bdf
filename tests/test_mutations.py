"""The list of mutations is in step with the code; `make mutations` runs them."""

from collections import Counter

import pytest

from tests import mutations
from tests.mutations import ROOT, Mutation, main, read_mutations

HARMLESS = Mutation(
    breaks="nothing: a comment",
    file="tb/similarity.py",
    old="The temporal similarity s of a video",
    new="The temporal similarity of a video",
    tests=("tests/tb/test_similarity.py",),
)


def test_every_mutation_changes_one_place_and_names_tests() -> None:
    found = read_mutations()
    assert len(found) >= 60
    for mutation in found:
        whole = (ROOT / mutation.file).read_text()
        assert mutation.applied(whole) != whole, mutation.breaks  # raises where it does not fit
        assert mutation.tests, mutation.breaks
        for name in mutation.tests:
            assert (ROOT / name).is_file(), name
    assert set(Counter(mutation.breaks for mutation in found).values()) == {1}


def test_what_is_broken_still_compiles() -> None:
    """Otherwise any test notices it."""
    for mutation in read_mutations():
        whole = (ROOT / mutation.file).read_text()
        compile(mutation.applied(whole), mutation.file, "exec")


def test_a_text_that_is_not_there_once_is_an_error() -> None:
    for text in ("", HARMLESS.old * 2):
        with pytest.raises(ValueError, match=r"tb/similarity\.py: .*change the entry 'nothing"):
            HARMLESS.applied(text)


@pytest.mark.slow
def test_a_break_is_noticed_and_a_harmless_change_survives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (swapped,) = (x for x in read_mutations() if x.breaks.startswith("p_T:"))
    whole = (ROOT / swapped.file).read_text()
    monkeypatch.setattr(mutations, "read_mutations", lambda: [swapped, HARMLESS])
    assert main([]) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 breaks noticed" in printed
    assert "survives: nothing: a comment (tb/similarity.py)" in printed
    assert (ROOT / swapped.file).read_text() == whole
    assert main(["--only", "p_T"]) == 0
