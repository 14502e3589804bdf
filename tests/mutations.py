"""Breaks the code on purpose, place by place, and names what the tests do not notice.

    python -m tests.mutations [--only WORD ...]

`mutations.toml` lists the places and their tests. First these tests must pass. Then each place is
broken in a copy of this checkout, in a temporary folder, and its tests run there. They must fail. A
break that they pass survives: a test is missing, or one asserts too little. Exits with 1 if one
survives.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
# Exit codes of pytest.
_PASSED, _FAILED = 0, 1


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A place where the code is broken.

    Attributes:
        breaks: What no longer holds.
        file: The file, relative to the checkout.
        old: A text that stands in the file exactly once.
        new: What it becomes.
        tests: The test files that must fail then.
    """

    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The broken content of the file.

        Raises:
            ValueError: `old` does not stand in it exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"{self.file}: {self.old!r} stands there {count} times, not once: change the entry"
                f" {self.breaks!r} of tests/mutations.toml"
            )
        return text.replace(self.old, self.new)


def read_mutations() -> list[Mutation]:
    """The content of mutations.toml."""
    content = tomllib.loads((ROOT / "tests" / "mutations.toml").read_text())
    return [Mutation(**{**row, "tests": tuple(row["tests"])}) for row in content["mutation"]]


def copy_checkout(folder: Path) -> None:
    """Copies all files of the checkout that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@contextmanager
def broken(mutation: Mutation, folder: Path) -> Iterator[None]:
    """Inside, the checkout in `folder` is broken."""
    path = folder / mutation.file
    whole, status = path.read_text(), path.stat()
    path.write_text(mutation.applied(whole))
    try:
        yield
    finally:
        path.write_text(whole)
        # Python tells by its time, in whole seconds, and its size whether a file has changed.
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def run_tests(names: Iterable[str], folder: Path) -> tuple[bool, str]:
    """Runs test files of the checkout in `folder`, up to the first test that fails.

    Returns:
        Whether all pass, and what pytest printed.

    Raises:
        RuntimeError: They do not run.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "not slow", *names],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    # If pytest itself fails, its exit code is that of a failed test, but no test is named.
    has_failed = done.returncode == _FAILED and re.search("^(FAILED|ERROR) ", printed, re.M)
    if done.returncode != _PASSED and not has_failed:
        raise RuntimeError(f"the tests do not run:\n{printed}")
    return done.returncode == _PASSED, printed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Name the breaks that the tests do not notice.")
    parser.add_argument("--only", nargs="+", default=[""], help="words of `breaks` or `file`")
    only = parser.parse_args(arguments).only
    chosen = [
        mutation
        for mutation in read_mutations()
        if any(word in f"{mutation.breaks} {mutation.file}" for word in only)
    ]
    if not chosen:
        parser.error(f"--only {' '.join(only)}: no entry has one of these words")
    survivors = []
    with TemporaryDirectory(prefix="mutations-") as name:
        copy_checkout(Path(name))
        # Tests that fail anyway notice nothing.
        is_whole, printed = run_tests({test for x in chosen for test in x.tests}, Path(name))
        if not is_whole:
            print(f"a test fails before anything is broken:\n{printed}")
            return 2
        for mutation in chosen:
            began_s = time.monotonic()
            with broken(mutation, Path(name)):
                survives, _ = run_tests(mutation.tests, Path(name))
            verdict = "SURVIVES" if survives else "noticed "
            print(f"{verdict} {time.monotonic() - began_s:5.1f} s  {mutation.breaks}", flush=True)
            if survives:
                survivors.append(mutation)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} breaks noticed")
    for mutation in survivors:
        print(f"survives: {mutation.breaks} ({mutation.file}); {', '.join(mutation.tests)} passed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
