"""The list of mutations fits the code; `make mutations` runs them."""

import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests import mutations
from tests.mutations import ROOT, Mutation, broken, main, read_mutations

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
            file, _, test = name.partition("::")
            assert (ROOT / file).is_file(), name
            function = test.partition("[")[0]
            assert not test or f"def {function}(" in (ROOT / file).read_text(), name
    assert set(Counter(mutation.breaks for mutation in found).values()) == {1}


def test_what_is_broken_still_compiles() -> None:
    """Otherwise any test notices it."""
    for mutation in read_mutations():
        whole = (ROOT / mutation.file).read_text()
        broken = mutation.applied(whole)
        assert broken != whole, mutation.breaks
        compile(broken, mutation.file, "exec")


def test_a_text_that_is_not_there_once_is_an_error() -> None:
    for text in ("", HARMLESS.old * 2):
        with pytest.raises(ValueError, match=r"tb/similarity\.py: .*change the entry 'nothing"):
            HARMLESS.applied(text)


def test_words_that_no_entry_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Without test files, pytest would run all of them."""
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "no such word"])
    assert "--only no such word: no entry has" in capsys.readouterr().err


def test_a_file_is_whole_again_and_as_old_as_before(tmp_path: Path) -> None:
    path = tmp_path / HARMLESS.file
    path.parent.mkdir()
    shutil.copy2(ROOT / HARMLESS.file, path)
    whole, before_ns = path.read_text(), path.stat().st_mtime_ns
    with broken(HARMLESS, tmp_path):
        assert path.read_text() == HARMLESS.applied(whole)
        assert path.stat().st_mtime_ns != before_ns
    assert path.read_text() == whole
    assert path.stat().st_mtime_ns == before_ns


_SWAPPED_AND_HARMLESS = """
import sys
from tests import mutations
from tests.test_mutations import HARMLESS
(swapped,) = (x for x in mutations.read_mutations() if x.breaks.startswith("p_T:"))
mutations.read_mutations = lambda: [swapped, HARMLESS]
sys.exit(mutations.main(sys.argv[1:]))
"""


def _mutate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs two mutations in a new process, because a fork of this one has decoders and threads."""
    command = [sys.executable, "-c", _SWAPPED_AND_HARMLESS, *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_a_break_is_noticed_and_a_harmless_change_survives() -> None:
    (swapped,) = (x for x in read_mutations() if x.breaks.startswith("p_T:"))
    whole = (ROOT / swapped.file).read_text()
    done = _mutate()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 2 breaks noticed" in done.stdout
    assert "survives: nothing: a comment (tb/similarity.py)" in done.stdout
    assert (ROOT / swapped.file).read_text() == whole
    done = _mutate("--only", "p_T")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_others_still_run_after_a_break_that_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_tests(names: tuple[str, ...], folder: Path, *options: str) -> tuple[list[str], str]:
        if names == ("crash",):
            raise RuntimeError("the tests do not run (exit code -11)")
        return (["noticed"] if options else []), ""

    crash = replace(HARMLESS, breaks="a crash", tests=("crash",))
    monkeypatch.setattr(mutations, "read_mutations", lambda: [crash, HARMLESS])
    monkeypatch.setattr(mutations, "run_tests", run_tests)
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert "a crash: the tests do not run (exit code -11)" in printed
    assert f"{HARMLESS.breaks}: noticed by noticed" in printed
    assert printed.endswith("the tests do not run: a crash\n")
