"""Pieces of work: kept, skipped, damaged, interrupted; the same rows in one process and in several."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from toy import STUDY

from accord import cli
from accord.errors import AccordError
from accord.studies import page, registry, running
from accord.studies.running import Plan
from accord.studies.study import Results, Study, Work, plain

QUICK = "X2"  # the study with the shortest smoke run


class Told:
    """A watcher that remembers."""

    def __init__(self):
        self.pieces, self.done = [], []

    def piece(self, plan, work, seconds, fresh):
        """Remember."""
        self.pieces.append((work.cell, work.seed, fresh))

    def complete(self, plan):
        """Remember."""
        self.done.append(plan.study.name)


def rows(plan: Plan) -> list[str]:
    """The rows of all pieces, times left out."""
    found = [running.read(plan.place(work), plan.study.name)["rows"] for work in plan.works()]
    times = re.compile(r'"[^"]*(ms|seconds|milliseconds|equal cost|equal time)[^"]*": [^,}\]]+')
    return [times.sub("", json.dumps(several)) for several in found]


def test_a_plan_knows_its_seeds_and_refuses_what_cannot_be(tmp_path):
    plan = Plan(STUDY, tmp_path, seeds=2, sets=2, first=5)
    assert [(w.cell, w.seed) for w in plan.works()] == [(c, s) for s in (5, 6, 7, 8) for c in ("a", "b")]
    places = {plan.place(work) for work in plan.works()}
    assert len(places) == 8
    assert not places & {Plan(STUDY, tmp_path, 2, 2, 5, smoke=True).place(w) for w in plan.works()}
    assert not places & {Plan(STUDY, tmp_path, 2, 2, 5, broken="no gain").place(w) for w in plan.works()}
    for wrong in ({"seeds": 0}, {"sets": 0}, {"first": -1}, {"broken": "nothing"}):
        with pytest.raises(AccordError, match=r"expected|has no sabotage"):
            Plan(STUDY, tmp_path, **wrong)


def test_finished_pieces_are_skipped(tmp_path):
    plan, told = Plan(STUDY, tmp_path, seeds=2), Told()
    running.execute([plan], told)
    assert told.done == ["toy"]
    before = rows(plan)
    plan.place(Work("b", 1)).unlink()
    told = Told()
    running.execute([plan], told)
    assert [(c, s) for c, s, fresh in told.pieces if fresh] == [("b", 1)]
    assert rows(plan) == before, "the random numbers of a piece depend on its seed alone"


def test_rows_return_as_they_were_measured(tmp_path):
    plan = Plan(STUDY, tmp_path, seeds=2)
    running.execute([plan], Told())
    results, about = running.results(plan)
    assert results.seeds == (0, 1)
    assert results.curve("curve", cell="a", method="Sum()").shape == (2, 3)
    assert about["sources"] == [running.source(STUDY)]
    with pytest.raises(KeyError, match=r"rows of seeds \[0, 0, 1, 1\]"):
        results.values("loss", cell="a")
    with pytest.raises(KeyError, match="have no 'gain'"):
        results.values("gain", cell="a", method="Sum()")
    with pytest.raises(ValueError, match="no rows"):
        Results([])
    with pytest.raises(TypeError, match="holds a set"):
        plain({"a": {1}})


@pytest.mark.parametrize(
    "change",
    [
        lambda piece: piece.pop("source"),
        lambda piece: piece.update(rows=[]),
        lambda piece: piece.update(rows=[1]),
        lambda piece: piece.update(seconds=float("nan")),
        lambda piece: piece.update(seed=7),
        lambda piece: piece.update(cell="b"),
    ],
)
def test_a_piece_that_is_not_what_was_written_is_named(tmp_path, change):
    plan = Plan(STUDY, tmp_path, seeds=1)
    running.execute([plan], Told())
    place = plan.place(Work("a", 0))
    piece = json.loads(place.read_text())
    change(piece)
    place.write_text(json.dumps(piece))
    with pytest.raises(AccordError, match=f"{place.name} is damaged.*Remove this file"):
        running.execute([plan], Told())


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"study": "other"}', b"\xff", b'{"study": "toy", "rows": 3}'])
def test_a_damaged_piece_is_named(tmp_path, content):
    plan = Plan(STUDY, tmp_path, seeds=1)
    running.execute([plan], Told())
    place = plan.place(Work("a", 0))
    place.write_bytes(content)
    with pytest.raises(AccordError, match=f"{place.name} is damaged.*Remove this file"):
        running.execute([plan], Told())


def test_the_page_says_that_the_study_has_changed_since(tmp_path):
    plan = Plan(STUDY, tmp_path, seeds=1)
    running.execute([plan], Told())
    place = plan.place(Work("a", 0))
    place.write_text(place.read_text().replace(running.source(STUDY), "f" * 64))
    page.write(plan)
    assert "it has changed since" in (plan.folder / page.PAGE).read_text()


def test_rows_of_other_code_that_lack_what_is_asked_for_are_named(tmp_path):
    plan = Plan(STUDY, tmp_path, seeds=1)
    running.execute([plan], Told())
    place = plan.place(Work("a", 0))
    place.write_text(place.read_text().replace('"loss"', '"cost"'))
    with pytest.raises(KeyError, match="loss"):  # measured by the code as it is: then the study is wrong
        page.write(plan)
    place.write_text(place.read_text().replace(running.source(STUDY), "f" * 64))
    with pytest.raises(AccordError, match=r"measured by other code than toy has now.*'loss'.*Remove that folder"):
        page.write(plan)


def test_an_error_in_a_study_stops_and_keeps_what_is_done(tmp_path):
    def fails(work: Work):
        if work.seed == 1:
            raise AccordError("no data.")
        return STUDY.measure(work)

    broken = Study(**{**vars(STUDY), "measure": fails})
    with pytest.raises(AccordError, match="no data"):
        running.execute([Plan(broken, tmp_path, seeds=2)], Told())
    told = Told()
    running.execute([Plan(STUDY, tmp_path, seeds=2)], told)
    assert [fresh for _, seed, fresh in told.pieces if seed == 0] == [False, False]


def test_processes_measure_the_same(tmp_path):
    study = registry.find(QUICK)
    assert len(study.cells) > 2
    alone, beside = (Plan(study, tmp_path / name, seeds=1, smoke=True) for name in ("alone", "beside"))
    running.execute([alone], Told(), jobs=1)
    running.execute([beside], Told(), jobs=2)
    assert rows(alone) == rows(beside)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_killed_studies_go_on(tmp_path, number):
    """Ctrl-C ends all processes at once; of a killed one, none is left behind. Then the same command goes on."""
    command = [sys.executable, "-m", "accord", "study", "run", QUICK, "--smoke", "--seeds", "40", "--jobs", "2"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    folder = tmp_path / f"{QUICK}-smoke" / "rows"
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.json"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    group = os.getpgid(process.pid)
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=240)
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    assert b"Traceback" not in error
    while True:  # the workers are gone
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kept = len(list(folder.glob("*.json")))
    assert 0 < kept < 40 * len(registry.find(QUICK).cells)
    told = Told()
    plan = Plan(registry.find(QUICK), tmp_path, seeds=1, smoke=True)
    running.execute([plan], told)
    assert not all(fresh for *_, fresh in told.pieces)


def test_mistakes_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, text in {
        ("run", "E3"): "Did you mean 'E03'?",
        ("run", QUICK, "--seeds", "0"): "--seeds is 0; expected at least 1.",
        ("run", QUICK, "--first-seed", str(2**63)): "--first-seed is 9223372036854775808; expected 0 to",
        ("run", QUICK, "--jobs", "0", "--smoke"): "--jobs is 0; expected at least 1.",
        ("run", QUICK, "--broken", "all"): "has no sabotage 'all'; it has",
        ("page",): "holds no complete study",
        ("page", QUICK): "not every seed was measured",
    }.items():
        assert cli.main(["study", *arguments]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
