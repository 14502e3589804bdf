"""`LoaderProcess`: the training's handle of its loader process. All loaders of a process share one.

The loader process is a new Python program, so it does not import the training's script. It works
from a notebook or a script without a `__main__` guard. It lives as long as a loader uses it.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Lock

from loaders.faults import LoaderError
from loaders.loader_process.messages import CloseLoader, Failed, Reply, Request, receive
from shards.errors import InputError

_PROGRAM = "loaders.loader_process.child"
_PATIENCE_S = 5.0


class LoaderProcess:
    """A running loader process; it ends when nothing refers to this object.

    Attributes:
        abandoned: Numbers of loaders that ended without `close`; the next request closes them.
    """

    def __init__(self) -> None:
        """Starts it, and does not wait until it is ready.

        Raises:
            InputError: It cannot be started.
        """
        ours, theirs = socket.socketpair()
        level = logging.getLogger("loaders").getEffectiveLevel()
        arguments = [str(theirs.fileno()), str(os.getpid()), str(level)]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    # -P: a file in the current folder must not take the place of a library.
                    [sys.executable, "-P", "-m", _PROGRAM, *arguments],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as error:
                ours.close()
                raise InputError(
                    f"the loader process cannot be started ({error.strerror}): open the loader with"
                    " in_process=True"
                ) from error
        self.abandoned: deque[int] = deque()
        self._control, self._connection = ours, Connection(os.dup(ours.fileno()))
        self._lock = Lock()  # one request at a time
        self._stop = weakref.finalize(
            self, _stop, self._process, self._control, self._connection, os.getpid()
        )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def ask(self, request: Request, descriptors: Sequence[int] = ()) -> Reply:
        """Sends a request with descriptors, and returns the reply.

        Raises:
            LoaderError: The process is dead.
            Exception: What the request raised there.
        """
        with self._lock:
            while self.abandoned:
                self._ask(CloseLoader(loader=self.abandoned.popleft()))
            reply = self._ask(request, descriptors)
        if isinstance(reply, Failed):
            raise reply.error
        return reply

    def _ask(self, request: Request, descriptors: Sequence[int] = ()) -> Reply:
        try:
            self._connection.send(request)
            if descriptors:
                socket.send_fds(self._control, [b"d"], descriptors)
            reply = receive(self._connection)
        except (EOFError, OSError) as error:
            raise self.death() from error
        except BaseException:  # Ctrl-C: the next request would get the reply to this one
            self._stop()
            raise
        assert isinstance(reply, Reply)
        return reply

    def death(self) -> LoaderError:
        """The error that says how the process has ended."""
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return LoaderError(f"the loader process ({self.pid}) does not answer any more")
        how = f"has ended with exit code {code}; its error output says why"
        if code == 0:
            # If another part of the program waits for all child processes, subprocess sees a 0.
            how = "has ended; how is unknown, because this program took its exit code elsewhere"
        if not self._stop.alive:
            how = "was ended, because a request to it was interrupted"
        if code < 0:
            how = f"was killed by {_signal_name(-code)}"
        if code == -signal.SIGKILL:
            how += (
                ". The kernel does that where memory runs out (see `dmesg`): lower lookahead_mb,"
                " num_workers or batch_size"
            )
        return LoaderError(f"the loader process ({self.pid}) {how}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


def _stop(
    process: "subprocess.Popen[bytes]", control: socket.socket, connection: Connection, pid: int
) -> None:
    is_owner = os.getpid() == pid  # and not a process that was forked from it
    if is_owner:
        with suppress(OSError):  # Forked processes keep the socket open.
            control.shutdown(socket.SHUT_RDWR)
    control.close()
    connection.close()
    if not is_owner:
        return
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _import_path() -> list[str]:
    """Where this process finds its modules. The loader process looks there too."""
    return [path or os.getcwd() for path in sys.path]


_shared: "weakref.ref[LoaderProcess] | None" = None
_shared_pid = 0
_shared_lock = Lock()


def shared_process() -> LoaderProcess:
    """The loader process of this process; starts it where there is none.

    Raises:
        InputError: It cannot be started.
    """
    global _shared, _shared_pid
    with _shared_lock:
        process = _shared() if _shared is not None and _shared_pid == os.getpid() else None
        if process is None or not process.is_running:
            process = LoaderProcess()
            _shared, _shared_pid = weakref.ref(process), os.getpid()
        return process
