"""A web server on 127.0.0.1 that behaves as badly as it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Range")))
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.reply(404, b"not here")
        else:
            answer(self)

    def reply(self, code: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        if length is not None and len(body) < length:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None: ...


class Server(ThreadingHTTPServer):
    """answers: by path. seen: path and Range of every request. over: set when the test ends, for answers that wait."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.over = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: object, client_address: object) -> None: ...


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def file(data: bytes, etag: str | None = None, cut_at: int | None = None, stall_at: int | None = None) -> Answer:
    """A file as servers send it, with ranges. cut_at, stall_at: the first answer that begins at 0 ends, or falls silent, after so many bytes."""
    etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"' if etag is None else etag
    spoilt = {"left": 1}

    def answer(handler: Handler) -> None:
        headers = {"ETag": etag} if etag else {}
        asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        if asked and condition == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                handler.reply(416, b"", **headers)
            else:
                handler.reply(206, data[start:], **headers, Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
            return
        stop = cut_at if stall_at is None else stall_at
        if stop is None or not spoilt["left"]:
            handler.reply(200, data, **headers)
            return
        spoilt["left"] -= 1
        handler.reply(200, data[:stop], len(data), **headers)
        handler.wfile.flush()
        if stall_at is not None:
            handler.server.over.wait(30)

    return answer


def redirect(to: str) -> Answer:
    return lambda handler: handler.reply(302, b"", Location=to)
