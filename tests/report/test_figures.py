"""Figures for papers: a PDF and a PNG of each chart, text stays text, nobody's settings are touched."""

from __future__ import annotations

import matplotlib as mpl
import pytest

from accord.report import figures

import sample


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    two = sample.Sample(tasks=["left", "right"], methods=["CAGrad(c=0.5)"], seeds=2, probes=10)
    runs = sample.read(sample.write(root / "runs", two))
    before = dict(mpl.rcParams)
    paths = figures.write(runs, root / "figures")
    assert dict(mpl.rcParams) == before
    return paths


def test_every_chart_and_view_is_there_in_both_formats(written):
    names = {path.name for path in written}
    assert len(names) == len(written) == len(list(written[0].parent.iterdir()))
    wanted = ["cost", "harm_rate", "conflict_time", "pair_cosine-CAGrad-c-0.5", "block_time-CAGrad-c-0.5"]
    assert {f"{name}.{kind}" for name in wanted for kind in ("pdf", "png")} <= names


def test_fonts_are_embedded_as_truetype(written):
    pdf = next(path for path in written if path.name == "conflict_time.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf


def test_pictures_are_pictures(written):
    for path in written:
        start = path.read_bytes()[:8]
        assert start.startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")


def test_names_that_look_alike_get_two_files(tmp_path):
    first, second = tmp_path / "a.pdf", tmp_path / "a-2.pdf"
    assert figures._unique(first, []) == first
    assert figures._unique(first, [first]) == second


def test_charts_without_anything_to_show_are_passed_over(tmp_path):
    one = sample.Sample(tasks=["left"], methods=["Sum()"], seeds=1, probes=3, singles=False)
    paths = figures.write(sample.read(sample.write(tmp_path / "runs", one)), tmp_path / "figures")
    assert {path.stem for path in paths} == {
        "learning-validation-metric", "learning-training-loss", "losses_time", "weights_time-Sum"
    }  # fmt: skip
