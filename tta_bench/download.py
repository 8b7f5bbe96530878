"""Downloads that can be resumed, are checked before they appear, and leave nothing half-written behind that cannot be resumed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from tta_bench.checkpoints import is_web_page
from tta_bench.errors import StorageError, WeightsError
from tta_bench.files import cannot_write, write_text

_MOST_REDIRECTS = 10
_CHUNK = 1 << 16  # what of a chunk has come is lost where the connection breaks
_MB = 1_000_000
_TIMEOUTS = (15.0, 60.0)  # seconds to connect, and without a byte


class Progress(Protocol):
    """Called with what is being done, how much of it is done, how much there is, and a few words."""

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None: ...


def silent(task: str, done: int, total: int, note: str = "") -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Expected:
    """What the file must be; size in bytes. None: not known, not checked."""

    sha256: str | None = None
    size: int | None = None
    md5: str | None = None


def download(
    address: str, target: Path, expected: Expected, progress: Progress = silent, timeouts: tuple[float, float] = _TIMEOUTS
) -> tuple[str, str]:
    """Fetch `address` (http or https, redirects too) to `target`, which appears once it is whole and is what is `expected`; SHA-256 and MD5.

    Where the connection breaks, or the server sends nothing for `timeouts[1]` seconds, what came stays beside the target as .part, with the
    server's name for that version, and the same call goes on from there. Raises WeightsError for that and for whatever is not the file
    (404, a web page, another length or hash), StorageError where it cannot be written; then no .part is left.
    """
    import requests

    _check_scheme(address, address)
    part = _Part(target, address)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with requests.Session() as session:
            _fetch(session, address, part, expected, progress, timeouts)
        found = hashes(part.data)
        _check_hash(address, found, expected)
        part.data.replace(target)
        part.drop()
    except _CutOff as error:
        if not part.resumable():
            part.drop()
        raise WeightsError(str(error)) from error
    except (WeightsError, StorageError):
        part.drop()
        raise
    except OSError as error:
        part.drop()
        raise cannot_write(target, error) from error
    return found


def hashes(path: Path) -> tuple[str, str]:
    """Hex SHA-256 and MD5 of a file's bytes, read once."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest()


class _CutOff(WeightsError):
    """The connection broke: what came may be gone on from."""


class _Part:
    """What has come so far, and which version of which address it is of."""

    def __init__(self, target: Path, address: str) -> None:
        self.data, self._note, self._address = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json"), address
        self.name = target.name

    def size(self) -> int:
        return self.data.stat().st_size if self.data.is_file() else 0

    def validator(self) -> str | None:
        """The server's name for the version that the part is of; None where there is nothing to go on from."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(note, dict) or note.get("address") != self._address or not self.size():
            return None
        validator = note.get("validator")
        return validator if isinstance(validator, str) else None

    def resumable(self) -> bool:
        return self.validator() is not None

    def begin(self, validator: str | None) -> None:
        self.drop()
        if validator:
            write_text(self._note, json.dumps({"address": self._address, "validator": validator}))

    def drop(self) -> None:
        for path in (self.data, self._note):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _fetch(session: Any, address: str, part: _Part, expected: Expected, progress: Progress, timeouts: tuple[float, float]) -> None:
    validator, have = part.validator(), part.size()
    if validator is None:
        have = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-", "If-Range": validator} if validator else {})
    with _reply(session, address, headers, timeouts) as reply:
        if validator and not _continues(reply, have, validator):
            if reply.status_code != 200:  # 416, or another part than was asked for
                part.drop()
                return _fetch(session, address, part, expected, progress, timeouts)
            have = 0
        if reply.status_code not in ((200, 206) if have else (200,)):
            raise WeightsError(f"{address}: the server answers {reply.status_code} {reply.reason}; check the address, or name another by --address")
        total = _total(reply, have)
        if have == 0:
            part.begin(_validator(reply))
        _receive(reply, address, part, have, total, expected, progress)
    return None


def _receive(reply: Any, address: str, part: _Part, have: int, total: int | None, expected: Expected, progress: Progress) -> None:
    """Append what comes to the part; raises _CutOff where that ends too early."""
    import requests

    with part.data.open("ab") as file:
        try:
            for chunk in reply.iter_content(_CHUNK):
                if have == 0 and is_web_page(chunk[:512]):
                    raise WeightsError(f"{address}: is a web page, not a file of weights; open it in a browser to see what it says")
                if expected.size is not None and total not in (None, expected.size):
                    raise WeightsError(f"{address}: is {total} bytes long, not {expected.size}; it is not the published file")
                file.write(chunk)
                have += len(chunk)
                progress(part.name, have // _MB, (total or have) // _MB, "MB")
        except requests.RequestException as error:
            raise _cut_off(address, have, total, _reason(error)) from error
        finally:
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise _cut_off(address, have, total, "it ended early")
    if total is not None and have > total:
        raise WeightsError(f"{address}: sends more than the {total} bytes that it announced; fetch it from another address")


def _cut_off(address: str, have: int, total: int | None, reason: str) -> _CutOff:
    of = f" of {total}" if total is not None else ""
    return _CutOff(f"{address}: the connection broke after {have}{of} bytes ({reason}); the same command goes on where it can")


@contextlib.contextmanager
def _reply(session: Any, address: str, headers: dict[str, str], timeouts: tuple[float, float]) -> Iterator[Any]:
    """The answer after redirects, which lead only to http and https, and never from https to http."""
    import requests

    url = address
    for _ in range(_MOST_REDIRECTS):
        try:
            reply = session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=timeouts)
        except requests.RequestException as error:
            raise _CutOff(
                f"{address}: cannot be reached ({_reason(error)}); check the network and the address, then run the command again"
            ) from error
        except ValueError as error:  # requests reads where a redirect leads
            raise WeightsError(f"{address}: leads to an address that is none ({error}); name another by --address") from error
        if not reply.is_redirect:
            with reply:
                yield reply
            return
        reply.close()
        onward = urljoin(url, reply.headers["Location"])
        _check_scheme(address, onward)
        if urlsplit(url).scheme == "https" and urlsplit(onward).scheme != "https":
            raise WeightsError(f"{address}: leads from https to {onward}, where anybody can change it; name another address by --address")
        url = onward
    raise WeightsError(f"{address}: leads from one address to the next without end; name another by --address")


def _check_scheme(address: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        allowed = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        allowed = False
    if not allowed:
        leads = "is no" if url == address else f"leads to {url}, which is no"
        raise WeightsError(f"{address}: {leads} http or https address; give one, or use a file that you have: tta-bench weights add FILE")


def _continues(reply: Any, have: int, validator: str) -> bool:
    """Whether the answer is the rest of the part's own version."""
    start = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
    return reply.status_code == 206 and start is not None and int(start[1]) == have and _validator(reply) in (None, validator)


def _validator(reply: Any) -> str | None:
    """A strong ETag, or else the date of the last change; a weak ETag does not promise equal bytes."""
    etag = reply.headers.get("ETag", "")
    found = etag if etag and not etag.startswith("W/") else reply.headers.get("Last-Modified")
    return found or None


def _total(reply: Any, have: int) -> int | None:
    """Bytes of the whole file, where the server says so."""
    length = reply.headers.get("Content-Length", "")
    packed = reply.headers.get("Content-Encoding", "identity") != "identity"
    return int(length) + have if length.isdigit() and not packed else None


def _check_hash(address: str, found: tuple[str, str], expected: Expected) -> None:
    for kind, got, wanted in (("SHA-256", found[0], expected.sha256), ("MD5", found[1], expected.md5)):
        if wanted is not None and got != wanted.lower():
            raise WeightsError(f"{address}: has the {kind} {got}, not {wanted}; it was not kept. If you mean another file: --sha256 {found[0]}")


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words."""
    import requests

    if isinstance(error, requests.Timeout):
        return "it sent nothing for too long"
    inner: BaseException = error
    for _ in range(10):
        cause = next((item for item in (getattr(inner, "reason", None), *inner.args) if isinstance(item, BaseException)), None)
        if cause is None:
            break
        inner = cause
    if "timed out" in str(inner).lower():
        return "it sent nothing for too long"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
