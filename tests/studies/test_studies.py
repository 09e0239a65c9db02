"""What every study has to keep: a smoke run of each cell, rows that can be judged, controls, sabotages, a page."""

from __future__ import annotations

import ast
import html
import inspect
import json
from pathlib import Path

import pytest

from accord.studies import page, registry, running
from accord.studies.running import Plan
from accord.studies.study import Work

WORDS = {"supported", "not supported", "inconclusive"}
names = pytest.mark.parametrize("name", registry.FILES)


class Quiet:
    """A watcher that does not care."""

    def piece(self, *_):
        """Nothing."""

    def complete(self, *_):
        """Nothing."""


@names
def test_it_runs_is_judged_and_has_a_page(name, tmp_path):
    plan = Plan(registry.find(name), tmp_path, seeds=1, smoke=True)
    running.execute([plan], Quiet())
    found = page.write(plan)
    assert found
    assert {f.word for f in found} <= WORDS
    assert len({f.claim.name for f in found}) == len(found)
    assert all(f.word == "inconclusive" for f in found), "one seed of a smoke run cannot decide anything"
    text = html.unescape((plan.folder / page.PAGE).read_text())
    assert "data:image/svg+xml" in text, "no picture"
    assert [control.name for control in plan.study.controls if control.name not in text] == []
    assert plan.study.tables(running.results(plan)[0])


@pytest.mark.slow
@names
def test_whatever_is_broken_on_purpose_still_runs_and_is_judged(name, tmp_path):
    for broken in registry.find(name).sabotages:
        plan = Plan(registry.find(name), tmp_path, seeds=1, smoke=True, broken=broken)
        running.execute([plan], Quiet())
        assert page.write(plan), broken


@names
def test_it_is_described(name):
    study = registry.find(name)
    assert study.name == name
    assert study.question.endswith("?")
    assert len(study.controls) >= 2
    assert len(set(study.cells)) == len(study.cells)
    assert len({running.slug(cell) for cell in study.cells}) == len(study.cells), "two cells share a file"
    assert study.sabotages
    assert 0 < study.seconds <= 200


@names
def test_it_is_written_with_the_public_face_only(name):
    """``import accord``, its public packages, and what the studies share; nothing from the inside of the library."""
    module = ast.parse(Path(inspect.getsourcefile(registry.find(name).measure)).read_text(encoding="utf-8"))
    taken = {node.module or "" for node in ast.walk(module) if isinstance(node, ast.ImportFrom)}
    inside = {m for m in taken if m.startswith("accord.")} - {
        f"accord.report.{x}" for x in ("chart", "palette", "table", "text")
    }
    allowed = ("accord.studies", "accord.problems", "accord.bench.stats", "accord.record")
    assert not {m for m in inside if not m.startswith(allowed)}
    private = [n.attr for n in ast.walk(module) if isinstance(n, ast.Attribute) and n.attr.startswith("_")]
    assert not [attr for attr in private if not attr.startswith("__")]


def test_every_study_is_registered_and_its_results_are_committed():
    folder = Path(inspect.getsourcefile(registry)).parent
    files = {path.stem for path in folder.glob("[ex][0-9]*.py")}
    assert files == set(registry.FILES.values())
    summary = Path(__file__).parents[2] / "experiments" / "studies" / "summary.json"
    stored = json.loads(summary.read_text(encoding="utf-8"))
    assert [entry["study"] for entry in stored] == list(registry.FILES)
    for entry in stored:
        assert {claim["verdict"] for claim in entry["claims"]} <= WORDS
        assert (summary.parent / entry["study"] / "index.html").exists()


@names
def test_a_sabotage_is_heard_of_by_the_measurement(name):
    """A sabotage that ``measure`` never asks about would be a label on an unbroken run."""
    study = registry.find(name)
    source = Path(inspect.getsourcefile(study.measure)).read_text(encoding="utf-8")
    assert ".broken" in source
    with pytest.raises(Exception, match="no sabotage"):
        Plan(study, Path(), broken="something else")
    assert Work("a", 0).broken == ""
