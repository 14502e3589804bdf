"""Encoding in another process, and what happens when that process dies.

A worker is a plain child process. It reads a pickled (pass, recipe) from its standard input and
writes one answer for each part to its standard output. `multiprocessing` does not fit. Its "spawn"
and "forkserver" run the script of the caller again in every child, which breaks notebooks and
scripts without an `if __name__` guard. Its "fork" copies a parent that may have threads and locks.
Our child imports only `shards.ingestion.worker`. When it dies, we know which video it was encoding.
When its parent is killed, it ends by itself.
"""

import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer

from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.transcode import transcode_parts
from shards.errors import InputError
from shards.ingestion.passes import Pass

_CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL)
_NUM_ATTEMPTS = 2
# There is a limit, because a header of a few kilobytes can ask for any amount of memory. 4 GiB are
# enough for an H.264 video of 8K, 10 bits and 4:4:4 with 16 reference frames.
_MEMORY_BYTES = 4 << 30
_MEMORY_PER_FILE_BYTE = 4


class _WorkerDiedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"worker ended with code {code}")
        self.code = code


class _LateError(Exception):
    """A result took too long."""


class Worker:
    """One child process; it starts when it is first needed, and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def encode(
        self, one_pass: Pass, recipe: Recipe, time_limit_s: float
    ) -> Generator[Encoded | TranscodeError, None, None]:
        """Yields the result of each part, as `transcode_parts` does, as soon as it is there.

        If the decoder crashes twice or takes too long, all parts without a result get an error.

        Args:
            one_pass: The file, and what is stored of it.
            recipe: How to store it.
            time_limit_s: The most time from one result to the next one, seconds.

        Raises:
            InputError: The process does not start, or it was killed twice while it worked on this
                file.
        """
        code, name, left = 0, one_pass.path.name, one_pass.parts
        for _ in range(_NUM_ATTEMPTS):
            try:
                for result in self._encode(replace(one_pass, parts=left), recipe, time_limit_s):
                    left = left[1:]
                    yield result
            except _WorkerDiedError as error:
                code = error.code
            except _LateError:
                reason = f"not done within {time_limit_s:g} s; raise the time limit"
                yield from [TranscodeError(f"{name}: {reason}", may_pass=True)] * len(left)
                return
            else:
                return
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if code < 0 and -code in _CRASH_SIGNALS:
            yield from [TranscodeError(f"{name}: crashed the decoder twice ({cause})")] * len(left)
            return
        raise InputError(
            f"{one_pass.path}: the worker process ended twice while working on it ({cause}; out of"
            " memory?): run again with fewer workers, or remove the video"
        )

    def _encode(
        self, one_pass: Pass, recipe: Recipe, time_limit_s: float
    ) -> Iterator[Encoded | TranscodeError]:
        """Yields the answers of the process.

        Raises:
            _LateError: It took too long.
            _WorkerDiedError: It ended.
        """
        process = self._process
        if process is None:
            process = self._process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        is_late = Event()

        def give_up() -> None:
            is_late.set()
            process.kill()

        request: object = (replace(one_pass, path=one_pass.path.absolute()), recipe)
        for _ in one_pass.parts:
            watchdog = Timer(time_limit_s, give_up)
            watchdog.start()
            try:
                if request is not None:
                    pickle.dump(request, process.stdin)
                    process.stdin.flush()
                    request = None
                answer = pickle.load(process.stdout)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                self._process = None
                code = _end(process)
                raise (_LateError() if is_late.is_set() else _WorkerDiedError(code)) from error
            finally:
                watchdog.cancel()
            assert isinstance(answer, Encoded | TranscodeError)
            try:
                yield answer
            except GeneratorExit:  # the next request must not get the answers to this one
                process.kill()
                self._process = None
                _end(process)
                raise

    def stop(self) -> None:
        """Kills the process at once; may be called from any thread."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Waits for the process after `stop`, when no thread talks to it any more."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._stopped:
            raise RuntimeError("the workers have been stopped")
        # The packages may be importable only through the sys.path of the caller.
        here = str(Path(__file__).resolve().parents[2])
        paths = [here, *(path for path in sys.path if path)]
        try:
            return subprocess.Popen(
                # -P: a file random.py in the current folder must not shadow the standard library.
                [sys.executable, "-P", "-m", "shards.ingestion.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        except OSError as error:
            raise InputError(
                f"{sys.executable}: a worker process does not start ({error.strerror}); run again"
                " with fewer workers, or free some memory"
            ) from error


@contextmanager
def open_workers(num_workers: int) -> Iterator[list[Worker]]:
    """Lends workers and closes them at the end; before that, stop them and end their threads."""
    workers = [Worker() for _ in range(num_workers)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.close()


def _end(process: "subprocess.Popen[bytes]") -> int:
    try:
        # Its pipes close shortly before it is dead; a signal now could hide the true cause.
        code = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    return code


def main() -> None:
    """The loop of the child: it reads requests and writes answers until the parent is gone."""
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    # Ctrl-C reaches the whole process group; only the parent reacts to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = sys.stdin.buffer
    # Libraries may print to standard output, but only answers may go through the pipe.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        while True:
            try:
                one_pass, recipe = pickle.load(requests)
            except EOFError:
                return
            _limit_memory(one_pass.path, limits)
            for answer in _answers(one_pass, recipe):
                pickle.dump(answer, answers)
                answers.flush()


def _limit_memory(path: Path, limits: tuple[int, int]) -> None:
    """Limits the memory of this process to 4 GiB plus four times the size of the file.

    The size counts because the recipe "copy" holds whole files. A lower limit of the user stays.
    """
    soft, hard = limits
    with suppress(OSError, ValueError):  # there is no such file, or this system has no such limit
        enough = _MEMORY_BYTES + _MEMORY_PER_FILE_BYTE * path.stat().st_size
        if soft == resource.RLIM_INFINITY or enough < soft:
            resource.setrlimit(resource.RLIMIT_DATA, (enough, hard))


def _answers(one_pass: Pass, recipe: Recipe) -> Iterator[Encoded | TranscodeError]:
    path, num_done = one_pass.path, 0
    try:
        for result in transcode_parts(path, one_pass.parts, recipe):
            num_done += 1
            yield result
    except Exception as error:
        # An unexpected error in one file must not stop thousands of others; the file is listed.
        for _ in one_pass.parts[num_done:]:
            yield TranscodeError(f"{path.name}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
