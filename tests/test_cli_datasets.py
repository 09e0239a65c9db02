"""``accord data get``, ``link``, ``show`` and ``list`` as a user meets them."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from accord import cli
from accord.data import DATASETS, find, original
from accord.data import places as where
from accord.data.catalogue.checksums import CHECKSUMS
from accord.problems.tpp_sets import REAL

DATA = Path(os.environ.get("ACCORD_DATA", "/nowhere"))  # as it is before the tests set it
CONTENT = {"mtl/adult/adult.parquet": b"people " * 1000}
SOME = ["mtl/text/wikitext2_valid.txt.gz", "mtl/text/state_union.jsonl.gz"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data folder and a home of our own."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ACCORD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


@pytest.fixture
def call(home, capsys):
    def called(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["data", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, " ".join(out.split()), err

    return called


@pytest.fixture
def mirror(home, monkeypatch):
    """The address of a mirror with files of our own content, as ``python -m http.server`` serves them."""
    for path, content in CONTENT.items():
        monkeypatch.setitem(CHECKSUMS, path, (len(content), hashlib.sha256(content).hexdigest()))
        (home / "served" / path).parent.mkdir(parents=True)
        (home / "served" / path).write_bytes(content)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silence."""

    handler = functools.partial(Quiet, directory=str(home / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def mistake(text: str) -> str:
    assert text.startswith("accord: ")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text


def test_a_set_comes_from_a_mirror_after_its_licence(call, mirror, home):
    code, out, err = call("get", "adult", "--from", mirror)
    assert (code, err) == (0, "")
    assert out.index("CC BY 4.0") < out.index("R. Kohavi") < out.index("adult.parquet: 7,000 bytes, checked")
    assert find("mtl/adult/adult.parquet") == home / "data" / "mtl" / "adult" / "adult.parquet"
    assert "All files are at hand." in call("get", "adult")[1]
    assert " adult " in call("list")[1]


def test_without_an_address_it_says_where_to_ask(call, home):
    for name, rule in (("nyuv2", "not to be passed on"), ("adult", "may be passed on"), ("lastfm", "not to be passed")):
        code, out, err = call("get", name)
        assert code == 2
        assert "Licence" in out
        text = mistake(err)
        assert rule in text
        assert DATASETS[name].origin in text
        assert f"accord data get {name} --from URL" in text


def test_what_is_offered_comes_before_the_rest_is_refused(call, home, monkeypatch):
    brought = []

    def fetched(file, root, mirror, tell):
        brought.append(file.path)
        return root / file.path

    monkeypatch.setattr("accord.cli.datasets.fetch", fetched)
    code, out, err = call("get", "text")
    assert code == 2
    assert len(brought) == 3
    assert all(Path(path).name in out for path in brought)
    assert "gives state_union.jsonl.gz, inaugural.jsonl.gz of the prepared files of text" in mistake(err)
    assert call("get", "tox21")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["get", "nyu2"], "Did you mean 'nyuv2'?"),
        (["show", "adlt"], "Did you mean 'adult'?"),
        (["link", "celebs", "."], "Did you mean 'celeba'?"),
        (["get"], "Missing argument"),
        (["get", "celeba"], "accord data link celeba FOLDER"),
        (["get", "adult", "--from", "/data"], "is no address of a folder"),
        (["get", "adult", "--from", "http://127.0.0.1:1"], "cannot be reached"),
        (["link", "celeba", "nowhere"], "is no folder; celeba should hold img_align_celeba/"),
        (["link", "adult", "."], "is not read from a folder of its originators"),
        (["got", "adult"], "Did you mean 'get'?"),
    ],
)
def test_mistakes_give_one_line(call, arguments, expected):
    code, _, err = call(*arguments)
    assert code == 2
    assert expected in mistake(err)


def test_a_mirror_without_the_file(call, mirror, home):
    code, _, err = call("get", "adult", "--from", f"{mirror}/elsewhere")
    assert code == 2
    assert "404" in mistake(err)
    (home / "served" / "mtl" / "adult" / "adult.parquet").write_bytes(b"animals" * 1000)
    assert "gives another file" in mistake(call("get", "adult", "--from", mirror)[2])


def test_a_data_folder_that_cannot_be_written_is_said(call, mirror, home, monkeypatch):
    real = where._writable
    monkeypatch.setattr(where, "_writable", lambda place: place != home / "data" and real(place))
    code, out, _ = call("get", "adult", "--from", mirror)
    assert code == 0
    assert "cannot be written" in out
    assert (home / "home" / ".cache" / "accord" / "mtl" / "adult" / "adult.parquet").is_file()
    assert "All files are at hand." in call("get", "adult")[1]
    monkeypatch.setattr(where, "_writable", lambda place: False)
    (home / "home" / ".cache" / "accord" / "mtl" / "adult" / "adult.parquet").unlink()
    assert "ACCORD_DATA" in mistake(call("get", "adult", "--from", mirror)[2])


def test_bundled_data_need_nothing(call):
    code, out, err = call("get", "digits")
    assert (code, err) == (0, "")
    assert "Nothing to download" in out


def test_an_original_is_linked_and_found(call, home):
    theirs = home / "their faces"
    theirs.mkdir()
    code, out, err = call("link", "celeba", theirs)
    assert (code, err) == (0, "")
    assert "list_attr_celeba.txt" in out
    assert original("celeba").resolve() == theirs
    assert f"Linked: {home / 'data' / 'originals' / 'celeba'}" in call("show", "celeba")[1]
    other = home / "other"
    other.mkdir()
    assert call("link", "celeba", other)[0] == 0
    assert original("celeba").resolve() == other
    assert [path.name for path in (home / "data" / "originals").iterdir()] == ["celeba"]


def test_a_folder_is_never_replaced_by_a_link(call, home):
    (home / "data" / "originals" / "celeba").mkdir(parents=True)
    assert "is there already and no link" in mistake(call("link", "celeba", home)[2])


def test_a_relative_folder_is_linked_as_such(call, home, monkeypatch):
    (home / "faces").mkdir()
    monkeypatch.chdir(home)
    assert call("link", "celeba", "faces")[0] == 0
    monkeypatch.chdir("/")
    assert original("celeba").resolve() == home / "faces"


def test_show_says_whether_files_are_right(call, home):
    assert "adult.parquet 403,822" in call("show", "adult")[1]
    path = home / "data" / "mtl" / "adult" / "adult.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert "another file" in call("show", "adult")[1]


@pytest.mark.parametrize("entry", DATASETS.values(), ids=lambda entry: entry.name)
def test_show_serves_every_set(call, entry):
    code, out, err = call("show", entry.name)
    assert (code, err) == (0, "")
    assert " ".join(entry.citation.split()) in out
    assert all(file.path.rsplit("/", 1)[1] in out for file in entry.files)


def test_the_list_has_every_set_that_is_no_event_set(call, home):
    out = call("list")[1]
    for entry in DATASETS.values():
        assert (f" {entry.name} " in out) == (entry.kind != "events"), entry.name
    for path in SOME:
        (home / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (home / "data" / path).write_bytes(bytes(CHECKSUMS[path][0]))
    assert "in part" in call("list")[1]


def test_real_files_come_through_a_mirror(call, mirror, home):
    """A genuine file, from a server on this machine."""
    if not (DATA / "mtl/school/school.npz").is_file():
        pytest.skip("needs the data folder in ACCORD_DATA (mtl/school/school.npz)")
    (home / "served" / "mtl" / "school").symlink_to(DATA / "mtl" / "school")
    assert call("get", "school", "--from", mirror)[0] == 0
    assert find("mtl/school/school.npz").stat().st_size == DATASETS["school"].size


def test_event_sets_have_entries():
    assert {problem.name.removeprefix("tpp-") for problem in REAL} <= DATASETS.keys()
