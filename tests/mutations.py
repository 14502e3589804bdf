"""Breaks the code on purpose, place by place, and names what the tests do not notice.

    python -m tests.mutations [--only WORD ...]

`mutations.toml` lists the places and their tests. Each place is broken in a copy of this checkout,
in a temporary folder, and its tests run there up to the first one that fails. A break that they
pass survives: a test is missing, or one asserts too little. At the end the tests that noticed a
break run with the whole code, where they must pass. Exits with 1 if a break survives, and with 2 if
a test fails although nothing is broken, or if a break ends the process of the tests.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import pytest

import tests.one_thread  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
# What takes seconds to import.
_LIBRARIES = ("torch", "torchvision", "av", "numba", "pyarrow.parquet", "pydantic")
_OURS = ("shards", "loaders", "tb", "bench", "tests")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A place where the code is broken.

    Attributes:
        breaks: What no longer holds.
        file: The file, relative to the checkout.
        old: A text that stands in the file exactly once.
        new: What it becomes.
        tests: The test files, or tests of a file ("file::test"), of which one must fail then.
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


def run_tests(names: Iterable[str], folder: Path, *options: str) -> tuple[list[str], str]:
    """Runs tests of the checkout in `folder`, in a process of their own.

    It is forked from this one, which has the libraries but none of our modules in memory.

    Returns:
        The tests that fail, without their parameters, and what pytest printed.

    Raises:
        RuntimeError: They do not run.
    """
    for name in _LIBRARIES:
        import_module(name)
    with TemporaryFile("w+") as output:
        pid = os.fork()
        if pid == 0:
            for descriptor in (1, 2):
                os.dup2(output.fileno(), descriptor)
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # not those of a test's capture
            code = int(pytest.ExitCode.INTERNAL_ERROR)
            try:
                code = _pytest([*options, *names], folder)
            except BaseException:
                traceback.print_exc()
            finally:
                print(end="", flush=True)
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        printed = output.read()
    failed = re.findall(r"^(?:FAILED|ERROR) ([^\[\s]+)", printed, re.M)
    ends: dict[int, bool] = {pytest.ExitCode.OK: False, pytest.ExitCode.TESTS_FAILED: True}
    # If pytest itself fails, its exit code may be that of a failed test, but no test is named.
    if ends.get(code) != bool(failed):
        raise RuntimeError(f"the tests do not run (exit code {code}):\n{printed}")
    return list(dict.fromkeys(failed)), printed


def _pytest(arguments: Sequence[str], folder: Path) -> int:
    """Runs pytest in this process on the checkout in `folder`; returns its exit code."""
    for name in [name for name in sys.modules if name.split(".")[0] in _OURS]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(path for path in sys.path if path != str(ROOT))]
    os.environ["PYTHONPATH"] = str(folder)  # for the processes that tests start
    os.chdir(folder)
    # Where a test starts this, pytest cannot rewrite the assertions of what is in memory.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider"]
    return pytest.main(["-q", *quiet, "-m", "not slow", *arguments])


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
    survivors, noticed_by, problems = [], set(), []
    with TemporaryDirectory(prefix="mutations-") as name:
        copy_checkout(Path(name))
        for mutation in chosen:
            began_s = time.monotonic()
            try:
                with broken(mutation, Path(name)):
                    failed, _ = run_tests(mutation.tests, Path(name), "-x")
            except RuntimeError as error:
                print(f"{mutation.breaks}: {error}", flush=True)
                problems.append(mutation.breaks)
                continue
            verdict = f"noticed by {failed[0]}" if failed else "SURVIVES"
            print(f"{time.monotonic() - began_s:5.1f} s  {mutation.breaks}: {verdict}", flush=True)
            noticed_by.update(failed)
            if not failed:
                survivors.append(mutation)
        # Tests that fail anyway notice nothing.
        failed, printed = run_tests(sorted(noticed_by), Path(name)) if noticed_by else ([], "")
    if failed:
        print(f"a test fails although nothing is broken:\n{printed}")
        return 2
    if problems:
        print(f"the tests do not run: {', '.join(problems)}")
        return 2
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} breaks noticed")
    for mutation in survivors:
        print(f"survives: {mutation.breaks} ({mutation.file}); {', '.join(mutation.tests)} passed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
