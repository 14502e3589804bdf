"""The list of mutations is in step with the code; `make mutations` runs them."""

from collections import Counter

from tests.mutations import ROOT, read_mutations


def test_every_mutation_changes_one_place_and_names_tests() -> None:
    mutations = read_mutations()
    assert len(mutations) >= 60
    for mutation in mutations:
        whole = (ROOT / mutation.file).read_text()
        assert mutation.applied(whole) != whole, mutation.breaks  # raises where it does not fit
        assert mutation.tests, mutation.breaks
        for name in mutation.tests:
            assert (ROOT / name).is_file(), name
    assert set(Counter(mutation.breaks for mutation in mutations).values()) == {1}


def test_what_is_broken_still_compiles() -> None:
    """Otherwise any test notices it."""
    for mutation in read_mutations():
        whole = (ROOT / mutation.file).read_text()
        compile(mutation.applied(whole), mutation.file, "exec")
