"""Downloads from a server of our own that drops, lies, hangs and redirects."""

from __future__ import annotations

import gzip
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord.data import transfer
from accord.data.catalogue import DATASETS, File, Public
from accord.data.catalogue.checksums import CHECKSUMS
from accord.data.fetch import address, get
from accord.data.places import right
from accord.errors import AccordError

PATH = "mtl/test set/x.bin"
CONTENT = np.random.default_rng(0).bytes(700_000)  # more than two chunks
DATA = Path(os.environ.get("ACCORD_DATA", "/nowhere"))


class Handler(BaseHTTPRequestHandler):
    """Answers as the script says, then with the file, ranges included."""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        script = self.server.script
        behaviour = script.popleft() if script else "ranges"
        getattr(self, f"_{behaviour}")(self.server.content)

    def _send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _ranges(self, content: bytes, cut: float = 1.0) -> None:
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(content):
            self._send(416, b"", Content_Range=f"bytes */{len(content)}")
            return
        body, extra = content[start:], {"ETag": tag}
        if start:
            extra["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, body[: int(cut * len(body))], len(body), **extra)

    def _drop(self, content: bytes) -> None:
        self._ranges(content, 0.5)

    def _plain(self, content: bytes) -> None:
        self._send(200, content)

    def _other(self, content: bytes) -> None:
        self._send(200, content[::-1])

    def _short(self, content: bytes) -> None:
        self._send(200, content[:1000])

    def _unending(self, content: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.server.sent = 0
        for _ in range(1000):
            self.wfile.write(content)
            self.server.sent += len(content)

    def _elsewhere(self, content: bytes) -> None:
        self._send(206, content[5:], Content_Range=f"bytes 5-{len(content) - 1}/{len(content)}")

    def _missing(self, content: bytes) -> None:
        self.send_error(404)

    def _busy(self, content: bytes) -> None:
        self.send_error(503)

    def _hostile(self, content: bytes) -> None:
        self.wfile.write(b"HTTP/1.0 403 \x1b[31mNo\r\n\r\n")

    def _nonsense(self, content: bytes) -> None:
        self.wfile.write(b"what?\r\n\r\n")

    def _close(self, content: bytes) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def _hang(self, content: bytes) -> None:
        self.server.release.wait(5)

    def _slow(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:300_000])
        self.wfile.flush()
        self.server.release.wait(20)

    def _redirect(self, content: bytes) -> None:
        self._send(302, b"", Location=self.server.location)

    def log_message(self, *_: object) -> None:
        """Silence."""


class Server(ThreadingHTTPServer):
    """What was asked, and what is to be answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests, self.location, self.sent = CONTENT, [], "", 0
        self.script: deque[str] = deque()
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/mirror"

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are no errors here."""

    @property
    def ranges(self) -> list[str | None]:
        """Of the requests."""
        return [headers.get("Range") for _, headers in self.requests]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setitem(CHECKSUMS, PATH, (len(CONTENT), hashlib.sha256(CONTENT).hexdigest()))
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.release.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def bring(server, tmp_path):
    return lambda told=None: get(File(PATH), tmp_path, server.url, told or (lambda *_: None))


def part(root: Path) -> Path:
    return root / f"{PATH}.part"


def error(bring) -> str:
    with pytest.raises(AccordError) as caught:
        bring()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def whole(root: Path) -> bool:
    """The file is there and right, and nothing else is."""
    assert (root / PATH).read_bytes() == CONTENT
    return [path.name for path in (root / PATH).parent.iterdir()] == ["x.bin"]


def test_a_file_arrives_whole(bring, server, tmp_path):
    told = []
    assert bring(lambda file, done, size: told.append((done, size))) == tmp_path / PATH
    assert whole(tmp_path)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert server.requests[0][0] == "/mirror/mtl/test%20set/x.bin"


def test_a_file_that_is_right_is_left_alone_and_another_is_replaced(bring, server, tmp_path):
    bring()
    bring()
    assert len(server.requests) == 1
    (tmp_path / PATH).write_bytes(b"damaged")
    bring()
    assert whole(tmp_path)


def test_a_dropped_connection_goes_on_where_it_broke(bring, server, tmp_path):
    server.script.extend(["drop", "drop"])
    bring()
    assert whole(tmp_path)
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]
    assert server.requests[1][1]["If-Range"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'


def test_the_next_command_goes_on_where_the_last_one_gave_up(bring, server, tmp_path):
    server.script.extend(["drop", "busy", "close", "nonsense"])
    text = error(bring)
    assert "after 4 attempts" in text
    assert "the same command goes on" in text
    assert not (tmp_path / PATH).exists()
    assert part(tmp_path).stat().st_size == len(CONTENT) // 2
    server.requests.clear()
    bring()
    assert whole(tmp_path)
    assert server.ranges == [f"bytes={len(CONTENT) // 2}-"]
    assert "If-Range" in server.requests[0][1]


def test_a_server_without_ranges_begins_anew(bring, server, tmp_path):
    server.script.extend(["drop", "plain"])
    bring()
    assert whole(tmp_path)


def test_a_file_that_changed_meanwhile_begins_anew(bring, server, tmp_path):
    server.content = CONTENT[::-1]
    server.script.extend(["drop", "missing"])
    assert "404" in error(bring)
    server.content = CONTENT
    bring()
    assert whole(tmp_path)
    assert server.ranges[-1] is not None
    assert len(server.requests) == 3  # the server itself sent all of it, because of If-Range


@pytest.mark.parametrize("length", [1, 1000, len(CONTENT), len(CONTENT) + 1])
def test_parts_of_another_file_are_found_out(bring, server, tmp_path, length):
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).write_bytes(bytes(length))
    bring()
    assert whole(tmp_path)


def test_a_complete_part_needs_no_server(bring, server, tmp_path):
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).write_bytes(CONTENT)
    bring()
    assert whole(tmp_path)
    assert not server.requests


def test_a_range_that_does_not_exist_begins_anew(bring, server, tmp_path):
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).write_bytes(CONTENT[:1000])
    server.content = CONTENT[:500]
    assert "gives 500 bytes, expected 700,000" in error(bring)
    assert server.ranges == ["bytes=1000-", None]
    server.content = CONTENT
    server.script.append("elsewhere")
    bring()
    assert whole(tmp_path)


def test_other_bytes_are_not_kept(bring, server, tmp_path):
    server.script.append("other")
    assert "gives another file (SHA-256" in error(bring)
    assert not list((tmp_path / PATH).parent.iterdir())


def test_another_length_is_refused_at_once_and_keeps_the_part(bring, server, tmp_path):
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).write_bytes(CONTENT[:1000])
    server.script.append("short")
    assert "gives 1,000 bytes, expected 700,000: another file" in error(bring)
    assert part(tmp_path).stat().st_size == 1000


def test_an_unending_answer_is_cut(bring, server, tmp_path):
    server.script.append("unending")
    assert "gives more than 700,000 bytes" in error(bring)
    assert server.sent < 100 * len(CONTENT)
    assert not list((tmp_path / PATH).parent.iterdir())


@pytest.mark.parametrize(
    ("behaviour", "expected", "asked"),
    [
        ("missing", "the server answered 404 Not Found; check the address", 1),
        ("busy", "the server answered 503 Service Unavailable, after 4 attempts", 4),
        ("close", "the connection broke (", 4),
        ("nonsense", "the connection broke (what?)", 4),
        ("hang", "nothing came for 0 seconds, after 4 attempts", 4),
    ],
)
def test_answers_that_are_none(bring, server, monkeypatch, behaviour, expected, asked):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.1)
    server.script.extend([behaviour] * 4)
    assert expected in error(bring)
    assert len(server.requests) == asked


def test_foreign_text_cannot_paint_the_terminal(bring, server):
    server.script.append("hostile")
    text = error(bring)
    assert "403" in text
    assert text.isprintable()


def test_nobody_listens(server, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        text = error(lambda: get(File(PATH), tmp_path, url, lambda *_: None))
    assert "cannot be reached" in text
    assert "check the address" in text


def test_redirects_within_http_are_followed_with_the_range(bring, server, tmp_path):
    server.location = f"{server.url}/elsewhere"
    server.script.extend(["drop", "redirect"])
    bring()
    assert whole(tmp_path)
    assert server.requests[-1][0] == "/mirror/elsewhere"
    assert server.ranges[-1] == f"bytes={len(CONTENT) // 2}-"


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://localhost/x", "data:,x", "/same"])
def test_other_redirects_are_refused(bring, server, tmp_path, location):
    server.location = location
    server.script.extend(["redirect"] * 40)
    text = error(bring)
    assert "redirect" in text.lower()
    assert not (tmp_path / PATH).exists()


def test_https_is_never_left():
    import urllib.request

    request = urllib.request.Request("https://example.invalid/x")
    with pytest.raises(AccordError, match="redirects to http://example.invalid/x, which is refused"):
        transfer._Redirects().redirect_request(request, None, 302, "", {}, "http://example.invalid/x")


def test_a_place_that_cannot_be_written(bring, tmp_path):
    (tmp_path / "mtl").write_text("a file where the folder should be")
    assert "cannot be written" in error(bring)


def test_a_full_disk_keeps_what_arrived(bring, server, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        text = error(bring)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room" in text
    assert part(tmp_path).stat().st_size == 300_000
    bring()
    assert whole(tmp_path)
    assert server.ranges == [None, "bytes=300000-"]


def test_two_processes_do_not_write_one_file(bring, server, tmp_path):
    with transfer._Part(part(tmp_path)):
        assert "another process" in error(bring)
    bring()
    assert whole(tmp_path)


def test_after_kill_the_same_command_goes_on(server, bring, tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from accord.data.catalogue import File\n"
        "from accord.data.catalogue.checksums import CHECKSUMS\n"
        "from accord.data.fetch import get\n"
        "path, size, digest, root, url = sys.argv[1:]\n"
        "CHECKSUMS[path] = int(size), digest\n"
        "get(File(path), Path(root), url, lambda *_: None)\n"
    )
    server.script.append("slow")
    arguments = [PATH, len(CONTENT), CHECKSUMS[PATH][1], tmp_path, server.url]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])
    deadline = time.monotonic() + 60
    while not (part(tmp_path).exists() and part(tmp_path).stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    server.release.set()
    kept = part(tmp_path).stat().st_size
    assert 0 < kept <= 300_000
    bring()
    assert whole(tmp_path)
    assert server.ranges[-1] == f"bytes={kept}-"


BEHAVIOURS = ["ranges", "drop", "plain", "other", "short", "elsewhere", "missing", "busy", "close", "nonsense"]


@given(script=st.lists(st.sampled_from(BEHAVIOURS), max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_server_does_there_is_the_right_file_or_none(server, tmp_path_factory, script):
    root = tmp_path_factory.mktemp("root")
    server.script.clear()
    server.script.extend(script)
    for _ in range(len(script) + 2):
        try:
            get(File(PATH), root, server.url, lambda *_: None)
        except AccordError:
            assert not (root / PATH).exists()
        else:
            break
    assert whole(root)  # once the server behaves, whatever was kept does no harm


@pytest.fixture
def packed(server, monkeypatch):
    """A prepared file that is the public one, compressed."""
    text = b"some text " * 5000
    server.content = text
    made = gzip.compress(text, 9, mtime=0)
    made = made[:9] + b"\xff" + made[10:]  # the system is unknown
    path = "mtl/test/x.txt.gz"
    monkeypatch.setitem(CHECKSUMS, path, (len(made), hashlib.sha256(made).hexdigest()))
    return File(path, Public(f"{server.url}/x.txt", len(text), hashlib.sha256(text).hexdigest(), pack=True)), made


def test_a_public_file_is_packed_into_the_prepared_one(packed, server, tmp_path):
    file, made = packed
    server.script.append("drop")
    path = get(file, tmp_path, None, lambda *_: None)
    assert path.read_bytes() == made
    assert [found.name for found in path.parent.iterdir()] == ["x.txt.gz"]
    assert server.requests[-1][0] == "/mirror/x.txt"
    server.content = made
    path.unlink()
    assert get(file, tmp_path, server.url, lambda *_: None).read_bytes() == made
    assert server.requests[-1][0] == "/mirror/mtl/test/x.txt.gz"


def test_what_counts_is_the_content_of_what_was_packed_here(packed, server, tmp_path):
    file, made = packed
    path = tmp_path / "x.gz"
    text = server.content
    for content, expected in [
        (made, True),
        (gzip.compress(text, 1), True),
        (gzip.compress(text[:-1]), False),
        (gzip.compress(text + b"x"), False),
        (gzip.compress(bytes(50_000_000)), False),
        (made[:-1], False),
        (b"\x1f\x8bnonsense", False),
        (b"", False),
    ]:
        path.write_bytes(content)
        assert right(path, file) == expected
    assert not right(tmp_path / "nowhere", file)


def test_a_file_without_a_public_address_says_so(tmp_path):
    with pytest.raises(AccordError, match="mtl/adult/adult.parquet has no public address"):
        get(File("mtl/adult/adult.parquet"), tmp_path, None, lambda *_: None)


@pytest.mark.parametrize(
    "mirror",
    [
        "file:///data",
        "ftp://host/data",
        "/data",
        "host/data",
        "",
        "http://",
        "https://host/?q=1",
        "http://[x/",
        "http:x",
    ],
)
def test_mirrors_are_folders_on_servers(mirror):
    with pytest.raises(AccordError, match="is no address of a folder"):
        address(File("mtl/adult/adult.parquet"), mirror)


def test_hosts_that_cannot_be(server, tmp_path):
    for mirror in ("http://a b/", "http://host:port/", "http://" + "a" * 70 + "/", "http://a..b/"):
        assert "cannot be reached" in error(lambda mirror=mirror: get(File(PATH), tmp_path, mirror, lambda *_: None))


PACKED = [file for each in DATASETS.values() for file in each.files if file.public]


@pytest.mark.parametrize("file", PACKED, ids=lambda file: file.path)
def test_public_files_are_the_prepared_ones(file, server, monkeypatch, tmp_path):
    """What the public address gives, made of the prepared file, becomes that file again."""
    path = DATA / file.path
    if not path.is_file():
        pytest.skip(f"needs the data folder in ACCORD_DATA ({file.path})")
    server.content = gzip.decompress(path.read_bytes()) if file.public.pack else path.read_bytes()
    assert len(server.content) == file.public.size
    assert hashlib.sha256(server.content).hexdigest() == file.public.sha256
    local = File(file.path, Public(f"{server.url}/x", file.public.size, file.public.sha256, file.public.pack))
    assert right(get(local, tmp_path, None, lambda *_: None), file)
