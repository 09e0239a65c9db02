"""The page is one file that fetches nothing, believes nobody's names, and says what is missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from accord.report import page, palette
from accord.report.plots import PLOTS

import sample

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "a $x$ %{y} <b>bold</b> & \"q\" 'q' \u2028 {{ 7 * 7 }}",
)


class Tags(HTMLParser):
    """All elements with their attributes, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.found, self.scripts, self.inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self.inside = None


@pytest.fixture(scope="module")
def text(study):
    return page.render([study])


@pytest.fixture(scope="module")
def tags(text):
    return Tags(text)


def embedded(tags):
    """The data of the charts, as the browser reads them."""
    return json.loads(tags.scripts[0])


def test_one_file_is_written(runs, tmp_path):
    path = page.write(runs, tmp_path / "new" / "report.html")
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_failure_leaves_the_old_file(runs, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        page.write(runs, path)
    monkeypatch.undo()
    assert path.read_text() == "old"


def test_nothing_is_loaded(tags):
    for tag, attributes in tags.found:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img", "video", "audio"), tag
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    policy = next(a["content"] for tag, a in tags.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_styles_and_our_script_name_no_address(text):
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert not re.search(r"url\(|@import|http", style)
    ours = (Path(page.__file__).parent / "page.js").read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\"]*", ours) == ["http://www.w3.org/2000/svg"]  # a namespace
    assert not re.search(r"fetch\(|XMLHttpRequest|innerHTML|eval\(", ours)


def test_plotly_is_there_once(text, tags):
    assert text.count("plotly.js v") == 1
    assert len(tags.scripts) == 3


def test_all_sections_and_charts_are_there(study, text, tags):
    ids = {attributes.get("id") for _, attributes in tags.found}
    assert {f"p0-{section.name}" for section in page.SECTIONS} <= ids
    drawn = {f"p0-{plot.__name__}" for plot in PLOTS if plot(study).views}
    assert {f"p0-{plot.__name__}" for plot in PLOTS} - drawn == {"p0-masked_incidence"}  # for sparse runs alone
    assert drawn <= ids
    assert set(embedded(tags)["charts"]) == drawn
    assert text.index('class="verdict"') < text.index('id="p0-results"') < text.index('id="p0-tradeoff"')
    for tag, attributes in tags.found:  # the links of the top lead somewhere
        if tag == "a":
            assert attributes["href"][1:] in ids


def test_every_chart_has_a_view_for_every_method(study, tags):
    charts = embedded(tags)["charts"]
    labels = [arm.label for arm in study.arms]
    for name in ("pair_cosine", "block_time", "dominance_time", "weights_time"):
        assert [view["label"] for view in charts[f"p0-{name}"]["views"]] == labels
    radios = [a for tag, a in tags.found if tag == "input" and a.get("type") == "radio"]
    assert len(radios) == len(labels)


def test_the_numbers_of_a_chart_travel_with_it(study, tags):
    panel = embedded(tags)["charts"]["p0-pair_cosine"]["views"][0]["panels"][0]
    assert panel["table"]["columns"] == ["task", *study.tasks]
    assert panel["table"]["rows"][0][:2] == ["left", "–"]


def test_the_same_runs_give_the_same_page(study, text):
    assert page.render([study]) == text


def test_every_colour_has_a_partner_at_night(tags):
    found = embedded(tags)
    drawn = set(re.findall(r'"(#[0-9a-f]{6}|rgba\([^)]*\))"', json.dumps(found["charts"])))
    assert drawn - {"rgba(0,0,0,0)"} <= set(found["dark"])
    assert found["dark"] == palette.dark()


def test_names_are_never_markup(make):
    study = make(tasks=HOSTILE, methods=["Sum()", "UPGrad()"], seeds=2, probes=6)
    text = page.render([study])
    tags = Tags(text)
    assert len(tags.scripts) == 3
    assert not [a for tag, a in tags.found if tag in ("img", "b") or "onerror" in a]
    charts = embedded(tags)["charts"]
    assert charts["p0-losses_time"]["views"][0]["panels"][1]["title"] == HOSTILE[1]
    assert "<script>alert" not in text
    assert "<img" not in text.split("<script>/**")[0]
    assert "{{ 7 * 7 }}" in text  # neither is it a template
    # Plotly reads a part of HTML: what it is handed is escaped
    ticks = charts["p0-pair_cosine"]["views"][0]["panels"][0]["figure"]["layout"]["xaxis"]["ticktext"]
    assert not any("<" in tick for tick in ticks)


def test_embedded_data_cannot_end_their_element():
    text = page.embedded({"</script>": "<!-- \u2028 &"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script>": "<!-- \u2028 &"}


def test_what_is_missing_is_said_once_per_chart(make):
    study = make(tasks=["left"], methods=["Sum()"], seeds=1, probes=3, singles=False)
    text = page.render([study])
    tags = Tags(text)
    assert text.count("Needs two tasks") == sum(plot(study).missing.startswith("Needs two tasks") for plot in PLOTS)
    assert set(embedded(tags)["charts"]) == {"p0-learning", "p0-losses_time", "p0-weights_time"}
    assert "With one task there is nothing that could conflict." in text
    assert not [a for tag, a in tags.found if a.get("role") == "radiogroup"]  # one method: nothing to choose


def test_two_problems_stand_on_one_page(tmp_path):
    for epochs in (4, 5):
        sample.write(
            tmp_path,
            sample.Sample(
                f"digits(epochs={epochs})", ["Sum()"], seeds=1, probes=3, singles=False, settings={"epochs": epochs}
            ),
        )
    text = page.write(sample.read(tmp_path), tmp_path / "r.html").read_text(encoding="utf-8")
    ids = [attributes.get("id") for _, attributes in Tags(text).found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {"p0", "p1", "p0-results", "p1-results"} <= set(ids)


def test_many_methods_are_chosen_from_a_list(make):
    study = make(methods=["Sum()", *(f"CAGrad(c={i})" for i in range(9))], seeds=1, probes=3, singles=False)
    tags = Tags(page.render([study]))
    assert [a for tag, a in tags.found if tag == "select" and a.get("class") == "method-select"]
    assert not [a for tag, a in tags.found if a.get("type") == "radio"]
