"""The page of a study and the summary: whole, self-contained, and honest about what they show."""

from __future__ import annotations

import json
import re

import pytest
from toy import STUDY

from accord.studies import page, running
from accord.studies.running import Plan


class Quiet:
    """A watcher that does not care."""

    def piece(self, *_):
        """Nothing."""

    def complete(self, *_):
        """Nothing."""


def made(folder, **settings) -> tuple[Plan, tuple, str]:
    plan = Plan(STUDY, folder, **settings)
    running.execute([plan], Quiet())
    found = page.write(plan)
    return plan, found, (plan.folder / page.PAGE).read_text()


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return made(tmp_path_factory.mktemp("full"), seeds=5, sets=2)


def test_verdicts_per_set_and_together(full):
    plan, found, _ = full
    assert [f.word for f in found] == ["supported", "not supported"]
    stored = json.loads((plan.folder / page.VERDICT).read_text())
    assert [claim["verdict"] for claim in stored["claims"]] == [f.word for f in found]
    assert [entry["seeds"] for entry in stored["claims"][0]["sets"]] == [[*range(5)], [*range(5, 10)]]
    assert stored["ledger"]["Command"] == "accord study run toy --seeds 5 --sets 2"


def test_the_page_has_every_part_and_needs_no_network(full):
    *_, text = full
    for part in ("Does it help?", "The survey says so.", "that nothing is needed", "means over seeds", "no data"):
        assert part in text
    assert "It lowers the &lt;loss&gt;." in text
    assert not re.search(r"<script|https?://|<link", text)
    assert text.count("data:image/svg+xml;base64,") == 1
    for heading in ("Verdicts", "Pictures", "Tables", "Controls", "Ledger"):
        assert f"<h2>{heading}</h2>" in text
    assert re.search(r"torch \d", text)


def test_a_picture_has_room_and_an_interval_its_own_line(full):
    *_, text = full
    assert text.count('class="picture columns-1"') == 1
    assert page._estimate("1.5 [1, 2]") == '1.5 <span class="range">[1, 2]</span>'
    assert [page._estimate(cell) for cell in ("", "-", "a [b", "width 4 [old]")] == ["", "-", "a [b", "width 4 [old]"]


def test_the_same_rows_give_the_same_page(full):
    plan, _, text = full
    page.write(plan)
    assert (plan.folder / page.PAGE).read_text() == text


def test_what_is_broken_on_purpose_changes_the_verdict_and_is_said(tmp_path):
    _, found, text = made(tmp_path, seeds=5, broken="no gain")
    assert [f.word for f in found] == ["not supported", "supported"]
    assert "Broken on purpose." in text
    assert "so that *helps* must fall" in text


def test_few_seeds_and_smoke_decide_nothing(tmp_path):
    _, found, text = made(tmp_path / "few", seeds=2)
    assert {f.word for f in found} == {"inconclusive"}
    assert "2 seeds in a set; 5 are needed for a verdict." in text
    _, found, text = made(tmp_path / "smoke", seeds=5, smoke=True)
    assert {f.word for f in found} == {"inconclusive"}
    assert "A smoke run." in text
    assert "A smoke run decides nothing." in text


def test_the_summary_links_and_counts(tmp_path):
    plan, found, _ = made(tmp_path, seeds=5)
    place = page.summarise([plan], {"toy": found}, tmp_path)
    text = place.read_text()
    assert "Claims: 1 supported, 1 not supported, 0 inconclusive." in text
    links = re.findall(r'href="(?!#)([^"]+)"', text)
    assert links == ["toy/index.html"]
    assert all((tmp_path / link).exists() for link in links)
    assert json.loads((tmp_path / "summary.json").read_text())[0]["study"] == "toy"
