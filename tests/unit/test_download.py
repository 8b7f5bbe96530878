from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.served import Server, file, redirect, serving
from tta_bench.download import Expected, download
from tta_bench.errors import StorageError, WeightsError

DATA = bytes(range(256)) * 20_000  # 5 MB: several chunks
HASH = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
QUICK = (2.0, 0.3)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def nothing_left(folder: Path) -> bool:
    return not list(folder.rglob("*.part*")) and not (folder / "w.pth").exists()


def test_a_good_download(tmp_path: Path, server: Server) -> None:
    server.answers["/w.pth"] = file(DATA)
    said: list[tuple[Any, ...]] = []
    found = download(server.url("/w.pth"), tmp_path / "new" / "w.pth", Expected(HASH, len(DATA), MD5), lambda *args: said.append(args))
    assert found == (HASH, MD5)
    assert (tmp_path / "new" / "w.pth").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.pth"]
    assert [done for _, done, _, _ in said] == sorted(done for _, done, _, _ in said)
    assert said[-1] == ("w.pth", 5, 5, "MB")


def test_redirects_between_web_addresses_are_followed(tmp_path: Path, server: Server) -> None:
    server.answers |= {"/a": redirect("/b"), "/b": redirect(server.url("/w.pth")), "/w.pth": file(DATA)}
    download(server.url("/a"), tmp_path / "w.pth", Expected(HASH))
    assert (tmp_path / "w.pth").read_bytes() == DATA


def _goes_on(folder: Path, server: Server, reason: str) -> None:
    with pytest.raises(WeightsError, match=rf"the connection broke after \d+ of 5120000 bytes \({reason}.*the same command goes on"):
        download(server.url("/w.pth"), folder / "w.pth", Expected(HASH), timeouts=QUICK)
    kept = (folder / "w.pth.part").read_bytes()
    assert 2_900_000 <= len(kept) <= 3_000_000
    assert kept == DATA[: len(kept)]
    assert not (folder / "w.pth").exists()
    download(server.url("/w.pth"), folder / "w.pth", Expected(HASH), timeouts=QUICK)
    assert (folder / "w.pth").read_bytes() == DATA
    assert server.seen == [("/w.pth", None), ("/w.pth", f"bytes={len(kept)}-")], "the second call asked for the rest alone"
    assert [path.name for path in folder.iterdir()] == ["w.pth"]


def test_a_cut_off_is_gone_on_from(tmp_path: Path, server: Server) -> None:
    server.answers["/w.pth"] = file(DATA, cut_at=3_000_000)
    _goes_on(tmp_path, server, "")


def test_a_silent_server_is_left_and_gone_on_from(tmp_path: Path, server: Server) -> None:
    server.answers["/w.pth"] = file(DATA, stall_at=3_000_000)
    _goes_on(tmp_path, server, "it sent nothing for too long")


def test_a_server_that_never_answers(tmp_path: Path, server: Server) -> None:
    server.answers["/w.pth"] = lambda handler: handler.server.over.wait(30) and None
    with pytest.raises(WeightsError, match=r"cannot be reached .*sent nothing for too long"):
        download(server.url("/w.pth"), tmp_path / "w.pth", Expected(HASH), timeouts=QUICK)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "again", [file(DATA[::-1]), file(DATA[::-1], etag=""), lambda h: h.reply(206, b"x", ETag='"other"', Content_Range="bytes 5-5/6")]
)
def test_another_version_of_the_file_is_not_mixed_with_the_first(tmp_path: Path, server: Server, again: Any) -> None:
    """The server ignores If-Range in the last case: what it sends is then asked for anew, from the beginning."""
    server.answers["/w.pth"] = file(DATA, cut_at=3_000_000)
    with pytest.raises(WeightsError, match="the connection broke"):
        download(server.url("/w.pth"), tmp_path / "w.pth", Expected())

    def then(handler: Any) -> None:
        (again if handler.headers.get("Range") else file(DATA[::-1]))(handler)

    server.answers["/w.pth"] = then
    download(server.url("/w.pth"), tmp_path / "w.pth", Expected())
    assert (tmp_path / "w.pth").read_bytes() == DATA[::-1]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(tmp_path: Path, server: Server) -> None:
    server.answers["/w.pth"] = file(DATA, cut_at=3_000_000)
    with pytest.raises(WeightsError, match="the connection broke"):
        download(server.url("/w.pth"), tmp_path / "w.pth", Expected(HASH))
    with (tmp_path / "w.pth.part").open("ab") as part:
        part.write(bytes(len(DATA)))
    download(server.url("/w.pth"), tmp_path / "w.pth", Expected(HASH))
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_a_part_of_another_address_is_thrown_away(tmp_path: Path, server: Server) -> None:
    server.answers |= {"/a": file(DATA[::-1], cut_at=3_000_000), "/b": file(DATA)}
    with pytest.raises(WeightsError, match="the connection broke"):
        download(server.url("/a"), tmp_path / "w.pth", Expected())
    download(server.url("/b"), tmp_path / "w.pth", Expected(HASH))
    assert server.seen[-1] == ("/b", None)


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_name_for_the_version_nothing_is_kept(tmp_path: Path, server: Server, etag: str) -> None:
    server.answers["/w.pth"] = file(DATA, etag=etag, cut_at=3_000_000)
    with pytest.raises(WeightsError, match="the connection broke"):
        download(server.url("/w.pth"), tmp_path / "w.pth", Expected(HASH))
    assert nothing_left(tmp_path)


def _page(handler: Any) -> None:
    handler.reply(200, b"<!doctype html><title>Sign in</title>", Content_Type="application/octet-stream")


@pytest.mark.parametrize(
    ("answer", "expected", "message"),
    [
        (None, Expected(), "answers 404 Not Found; check the address"),
        (lambda handler: handler.reply(503, b""), Expected(), "answers 503"),
        (_page, Expected(), "is a web page"),
        (file(DATA), Expected("0" * 64), f"has the SHA-256 {HASH}, not 0000"),
        (file(DATA), Expected(None, None, "0" * 32), f"has the MD5 {MD5}, not 0000"),
        (file(DATA), Expected(None, 5), "is 5120000 bytes long, not 5"),
        (redirect("file:///etc/passwd"), Expected(), "leads to file:///etc/passwd, which is no http"),
        (redirect("ftp://127.0.0.1/w"), Expected(), "leads to ftp://127.0.0.1/w, which is no http"),
        (redirect("http://[::1"), Expected(), "leads to an address that is none"),
        (redirect("/w.pth"), Expected(), "leads from one address to the next without end"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(tmp_path: Path, server: Server, answer: Any, expected: Expected, message: str) -> None:
    if answer:
        server.answers["/w.pth"] = answer
    (tmp_path / "other").write_text("stays")
    with pytest.raises(WeightsError, match=message) as caught:
        download(server.url("/w.pth"), tmp_path / "w.pth", expected)
    assert str(caught.value).startswith(server.url("/w.pth"))
    assert nothing_left(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["other"]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/w", "w.pth", "http://", "http://[::1", "data:text/plain,x"])
def test_only_web_addresses(tmp_path: Path, address: str) -> None:
    with pytest.raises(WeightsError, match="is no http or https address"):
        download(address, tmp_path / "w.pth", Expected())
    assert nothing_left(tmp_path)


def test_from_https_to_http_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secure server would need a certificate; the answer is made by hand instead, below the redirects."""
    import requests

    def send(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.url = 302, str(request.url)
        answer.headers["Location"] = "http://127.0.0.1/w.pth"
        answer.raw = open(os.devnull, "rb")  # noqa: PTH123, SIM115 - closed with the answer
        answer.raw.release_conn = None
        return answer

    monkeypatch.setattr(requests.Session, "send", send)
    with pytest.raises(WeightsError, match=r"leads from https to http://127\.0\.0\.1/w\.pth"):
        download("https://127.0.0.1/w.pth", tmp_path / "w.pth", Expected())


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(WeightsError, match=r"cannot be reached \(.*refused"):
        download(f"http://127.0.0.1:{port}/w.pth", tmp_path / "w.pth", Expected())
    assert nothing_left(tmp_path)


def test_a_full_disk(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/w.pth"] = file(DATA)

    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 1_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"w\.pth: cannot be written \(No space left"):
        download(server.url("/w.pth"), tmp_path / "w.pth", Expected(HASH))
    assert nothing_left(tmp_path)


def test_a_folder_that_cannot_be(tmp_path: Path, server: Server) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        download(server.url("/w.pth"), tmp_path / "taken" / "w.pth", Expected())
    assert (tmp_path / "taken").read_text() == "a file"
