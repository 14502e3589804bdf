"""A proxy on this machine that hands on requests to a server, and sometimes fails to."""

import http.client
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SLOW_PARTS = 20
_PAUSE_S = 0.02


class FailingProxy:
    """Fails at each request of a file, as long as there are `failures`.

    A failure is "500" or "503" (such an answer), "closed" or "silent" (none), "half" (half of the
    body, and the connection is closed), "stalled" (half of the body, and the connection stays open)
    or "slow" (a body in many small parts).

    Attributes:
        address: Its URL.
        file: How the name of the file ends; at first it is any shard.
        failures: Those of the next requests.
        failed: How often each happened.
    """

    def __init__(self, server: str) -> None:
        self.file = ".tar"
        self.failures: deque[str] = deque()
        self.failed: Counter[str] = Counter()
        self.stopping = threading.Event()
        self._upstream = urlsplit(server).netloc
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.answer(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"

    def _next_failure(self, request: BaseHTTPRequestHandler) -> str:
        path = urlsplit(request.path).path
        if request.command != "GET" or not path.endswith(self.file):
            return ""
        with suppress(IndexError):
            failure = self.failures.popleft()
            self.failed[failure] += 1
            return failure
        return ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers a request, as the server does or wrongly."""
        failure = self._next_failure(request)
        request.close_connection = bool(failure)
        if failure == "closed":
            return
        if failure == "silent":
            self.stopping.wait()
            return
        if failure in ("500", "503"):
            request.send_response(int(failure))
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        self._hand_on(request, failure)

    def _hand_on(self, request: BaseHTTPRequestHandler, failure: str) -> None:
        upstream = http.client.HTTPConnection(self._upstream)
        try:
            upstream.request(request.command, request.path, headers=dict(request.headers))
            answer = upstream.getresponse()
            body = answer.read()
        finally:
            upstream.close()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                request.send_header(name, value)
        request.end_headers()
        if failure in ("half", "stalled"):
            request.wfile.write(body[: len(body) // 2])
            if failure == "stalled":
                request.wfile.flush()
                self.stopping.wait()
        elif failure == "slow":
            for part in range(_SLOW_PARTS):
                ends = [len(body) * i // _SLOW_PARTS for i in (part, part + 1)]
                request.wfile.write(body[slice(*ends)])
                request.wfile.flush()
                time.sleep(_PAUSE_S)
        else:
            request.wfile.write(body)


@contextmanager
def failing_proxy(server: str) -> Iterator[FailingProxy]:
    """Yields a proxy for the server at an URL; it ends with the block."""
    proxy = FailingProxy(server)
    thread = threading.Thread(target=proxy.http.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        proxy.http.shutdown()
        proxy.http.server_close()
        thread.join()
