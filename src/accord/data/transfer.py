"""One file over HTTP: resumed, bounded, checked. Nothing that arrives is ever executed or unpickled."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from accord.data.places import CHUNK
from accord.errors import AccordError

try:
    import fcntl
except ImportError:  # Windows has no flock; there two processes are not kept apart
    fcntl = None  # type: ignore[assignment]

WAITS = (1.0, 2.0, 4.0)  # seconds between attempts
TIMEOUT = 30.0  # seconds without a byte
SCHEMES = ("http", "https")
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers after which another attempt may succeed


def transfer(url: str, part: Path, size: int, digest: str, tell: Callable[[int], None]) -> None:
    """Bring the bytes of an address to a file, going on with what is there already.

    Args:
        url: http or https.
        part: the file; what arrived stays there when the transfer fails.
        size: bytes expected.
        digest: SHA-256 expected.
        tell: called with the number of bytes that are there.

    Raises:
        AccordError: one line for anything that goes wrong.
    """
    with _Part(part) as held:
        for again in (True, False):
            _all(url, held, size, tell)
            if (found := held.sha256()) == digest:
                return
            whole = held.whole
            held.clear()
            if whole or not again:  # parts of different files are the only reason to begin anew
                raise AccordError(
                    f"{url} gives another file (SHA-256 {found[:12]}..., expected {digest[:12]}...); nothing was kept."
                )


def _all(url: str, part: _Part, size: int, tell: Callable[[int], None]) -> None:
    for wait in (*WAITS, None):
        try:
            _receive(url, part, size, tell)
            return
        except _Passing as error:
            if wait is None:
                raise AccordError(
                    f"{url}: {error}, after {len(WAITS) + 1} attempts; what arrived is kept, the same command goes on."
                ) from None
            time.sleep(wait)


def _receive(url: str, part: _Part, size: int, tell: Callable[[int], None]) -> None:
    """One request for what is missing."""
    if part.length > size:
        part.clear()
    if part.length == size:
        tell(size)
        return
    try:
        with _opener().open(urllib.request.Request(url, headers=part.headers(url)), timeout=TIMEOUT) as response:
            _begin(response, url, part, size)
            while chunk := response.read(CHUNK):
                if part.length + len(chunk) > size:
                    part.clear()
                    raise AccordError(f"{url} gives more than {size:,} bytes: another file; nothing was kept.")
                part.write(chunk)
                tell(part.length)
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:
            part.clear()  # the server has less than is here
        raise _said(url, error) from None
    if part.length < size:
        raise _Passing(f"the connection ended after {part.length:,} of {size:,} bytes")


def _begin(response: Any, url: str, part: _Part, size: int) -> None:
    """Make the file such that the bytes of a response go to its end."""
    partial = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", "")) if response.status == 206 else None
    start = int(partial[1]) if partial else 0
    if response.status not in (200, 206) or start not in (0, part.length):
        part.clear()
        raise _Passing(f"the server answered {response.status} with another range")
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and start + int(announced) != size:
        raise AccordError(f"{url} gives {start + int(announced):,} bytes, expected {size:,}: another file.")
    if start != part.length:
        part.clear()
    part.remember(url, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))


def _said(url: str, error: Exception) -> Exception:
    """What went wrong, in one line; ``_Passing`` where another attempt may succeed."""
    if isinstance(error, urllib.error.HTTPError):
        text = f"the server answered {error.code} {_plain(str(error.reason))}".rstrip()
        retry = error.code in (*PASSING, 416)
        return _Passing(text) if retry else AccordError(f"{url}: {text}; check the address.")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError) or (
        isinstance(error, http.client.InvalidURL | UnicodeError)
    ):
        return AccordError(f"{url} cannot be reached ({_reason(reason)}); check the address and the connection.")
    if isinstance(reason, TimeoutError):
        return _Passing(f"nothing came for {TIMEOUT:.0f} seconds")
    return _Passing(f"the connection broke ({_reason(reason)})")


def _reason(error: object) -> str:
    return _plain(str(getattr(error, "strerror", None) or error)) or type(error).__name__


def _plain(text: str) -> str:
    """Foreign text, fit for one line of a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())


def _opener() -> urllib.request.OpenerDirector:
    """Handlers for http and https alone: no files, no ftp, no data addresses, not even after a redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.UnknownHandler, urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler, urllib.request.HTTPDefaultErrorHandler, _Redirects,
        urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects that stay within http and https, and never leave https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in SCHEMES or (old, new) == ("https", "http"):
            raise AccordError(f"{req.full_url} redirects to {_plain(newurl)}, which is refused; check the address.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Passing(Exception):
    """A failure after which another attempt may succeed."""


class _Part:
    """A file that is still arriving, held by one process; beside it, which version of which address it is of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = path.with_name(f"{path.name}.from")
        self.whole = False  # whether all bytes came by one response

    def __enter__(self) -> _Part:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file: FileIO = self.path.open("ab+", buffering=0)
            if fcntl is not None:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # whoever held it before may have moved it to its final place meanwhile
            if not os.path.exists(self.path) or not os.path.samestat(os.fstat(self.file.fileno()), self.path.stat()):
                raise BlockingIOError
        except BlockingIOError:
            self.file.close()
            raise AccordError(f"{self.path} is being written by another process; wait for it to end.") from None
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self.length == 0:
            with suppress(OSError):
                self.path.unlink()
        self.file.close()

    @property
    def length(self) -> int:
        """Bytes that are there."""
        return os.fstat(self.file.fileno()).st_size

    def clear(self) -> None:
        """Begin anew."""
        self.file.truncate(0)
        self.beside.unlink(missing_ok=True)

    def sha256(self) -> str:
        """Of what is there."""
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self.file.write(rest) or 0 :]
        except OSError as error:
            raise self._unwritable(error) from None

    def remember(self, url: str, tag: str, modified: str) -> None:
        """Which version of the address the bytes are of, so that those of another are never added to them."""
        self.whole = self.length == 0
        if self.whole:  # a weak tag must not be used with ranges
            version = modified if tag.startswith("W/") or not tag else tag
            try:
                self.beside.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
            except OSError as error:
                raise self._unwritable(error) from None

    def headers(self, url: str) -> dict[str, str]:
        """Of a request for what is missing: all, or a range of the version of which there is a part."""
        headers = {"User-Agent": "accord", "Accept-Encoding": "identity"}
        if not self.length:
            return headers
        headers["Range"] = f"bytes={self.length}-"
        try:
            known = json.loads(self.beside.read_text(encoding="utf-8"))
            if known["url"] == url and known["version"]:
                headers["If-Range"] = str(known["version"])
        except (OSError, ValueError, KeyError, TypeError):  # then the checksum decides
            pass
        return headers

    def _unwritable(self, error: OSError) -> AccordError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return AccordError(
                f"{self.path}: {error.strerror}; what arrived is kept, make room and the same command goes on."
            )
        return AccordError(f"{self.path} cannot be written ({error.strerror or error}).")
