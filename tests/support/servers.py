# SPDX-License-Identifier: Apache-2.0
"""A web server for tests: a folder of files with ranges, and failures to order."""

import html
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote


class Web(ThreadingHTTPServer):
    """Serves `files` by path; a path with a slash at its end is a page of links.

    Attributes:
        files: may be changed while it serves.
        status: the status that a path answers with, in place of its file.
        ranges: does it give parts of files?
        headers: of all answers, in place of those that they would have; None for none.
        more: bytes that are sent after the body of a path, and not said to be there.
        redirects: where a path leads.
        before: called with method and path before each answer.
        sent: the bytes of all bodies that were taken.
        delay: the seconds that each answer takes.
        requests: how often each method and path was asked for.
        most: how many requests it had at one time.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.status: dict[str, int] = {}
        self.ranges = True
        self.headers: dict[str, str | None] = {}
        self.more: dict[str, Iterator[bytes]] = {}
        self.redirects: dict[str, str] = {}
        self.before: Callable[[str, str], object] = lambda *_: None
        self.sent = 0
        self.delay = 0.0
        self.requests: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.gone = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        pass  # a client that left


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Web

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        server = self.server
        if server.gone:  # but the client kept the connection
            self.close_connection = True
            return
        with server.lock:
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            time.sleep(server.delay)
            self._send(unquote(self.path), body)
        finally:
            with server.lock:
                server.now -= 1

    def _send(self, path: str, body: bool) -> None:
        server = self.server
        server.before(self.command, path)
        server.requests[self.command, path] += 1
        if path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = server.files.get(path)
        status, kind = server.status.get(path, 200), "application/octet-stream"
        if data is None and path.endswith("/"):
            names = {name[len(path) :] for name in server.files if name.startswith(path)}
            links = {name.split("/")[0] + "/" * ("/" in name) for name in names}
            rows = "".join(
                f'<a href="{quote(link)}">{html.escape(link)}</a>\n' for link in sorted(links)
            )
            page = f'<a href="?C=N;O=D">Name</a> <a href="../">..</a>\n{rows}'
            data, kind = page.encode(), "text/html"
            status = status if links else 404
        elif data is None:
            status = 404
        if status >= 400 or data is None:
            data = b"no"
        headers = {"ETag": f'"{hash(data)}"', "Content-Type": kind}
        wanted = self.headers.get("Range")
        if not server.ranges:
            headers["Accept-Ranges"] = "none"
        elif wanted and status == 200:
            first, last = wanted.removeprefix("bytes=").split("-")
            start, end = int(first), int(last or len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            status = 206 if start < len(data) else 416
            data = data[start : end + 1]
        headers["Content-Length"] = str(len(data))
        more = server.more.get(path) if body else None
        if more is not None:  # of a length that is not said
            del headers["Content-Length"]
            self.close_connection = True
        self.send_response(status)
        for name, value in {**headers, **server.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if body:
            self._write(data)
            for part in more or ():
                self._write(part)

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.sent += len(data)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Web]:
    """A server that ends with the context."""
    with Web(files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.gone = True
            server.shutdown()
            thread.join()
