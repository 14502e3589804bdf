"""An S3 server (moto) on this machine, for the bench of remote shards and for tests."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "anyone",
    "AWS_SECRET_ACCESS_KEY": "anything",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""Environment variables; the server accepts any values."""
_PATIENCE_S = 60


@contextmanager
def s3_server() -> Iterator[str]:
    """Yields the server's address, for AWS_ENDPOINT_URL. The server ends with the block.

    Raises:
        RuntimeError: It does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + _PATIENCE_S
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError("moto's server does not start: pip install 'moto[server]'")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
