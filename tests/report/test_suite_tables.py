"""Tables for papers against an independent calculation from the JSON files, and their escaping."""

from __future__ import annotations

import csv
import json
import re
import statistics
from html.parser import HTMLParser

import pytest
from scipy.stats import t as student

from accord.bench.store import load_runs
from accord.errors import AccordError
from accord.report.across.suite import Suite
from accord.report.papers import formats, write
from accord.report.papers.sheet import Cell, Head, Sheet, marked, of_study
from accord.report.study import studies

import sample

HOSTILE = r"""\cmd{x} 50 % & $a$ #1 _b_ ~c^2 <i> | "q" [z] *s* 日 é"""
METHODS = ("Sum()", "UPGrad()", "PCGrad()")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    for epochs in (4, 5):
        sample.write(
            folder,
            sample.Sample(
                f"digits(epochs={epochs})", METHODS, probes=4, gain={"UPGrad()": 0.02, "PCGrad()": -0.05},
                settings={"epochs": epochs},
            ),
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def written(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return {path.name: path for path in write.write(load_runs(root), folder)}


def by_hand(root, problem, method, task):
    """Test metrics by seed, from the files alone."""
    found = {}
    for path in root.rglob("result.json"):
        config = json.loads(path.with_name("config.json").read_text())
        if (config["problem"], config["method"], config["tasks"]) == (problem, method, None):
            found[config["seed"]] = json.loads(path.read_text())["test"][task]["value"]
    return found


def cells(text):
    """The rows of a Markdown table."""
    lines = [line for line in text.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("method", METHODS)
def test_printed_cells_are_those_of_the_files(root, written, method):
    head, _, *rows = cells(written["digits-epochs-4.md"].read_text())
    row = next(row for row in rows if row[0] == method)
    for task in sample.TASKS:
        values = by_hand(root, "digits(epochs=4)", method, task).values()
        half = student.ppf(0.975, 2) * statistics.stdev(values) / 3**0.5
        shown = row[head.index(f"{task} accuracy ↑")].strip("*")
        decimals = len(shown.split(" ")[0].split(".")[1])
        assert shown == f"{statistics.mean(values):.{decimals}f} ± {half:.{decimals}f}"
        assert decimals >= 3
    versus = [
        100 * statistics.mean(by_hand(root, "digits(epochs=4)", method, task)[seed]
                              / by_hand(root, "digits(epochs=4)", "Sum()", task)[seed] - 1 for task in sample.TASKS)
        for seed in range(3)
    ]  # fmt: skip
    shown = row[head.index("against Sum() % ↑")].strip("*").replace("−", "-")
    assert shown == ("–" if method == "Sum()" else f"{statistics.mean(versus):+.2f} ± "
                     f"{student.ppf(0.975, 2) * statistics.stdev(versus) / 3**0.5:.2f}")  # fmt: skip


def test_all_files_are_there_and_say_how(written):
    stems = ("all-problems", "digits-epochs-4", "digits-epochs-5")
    assert set(written) == {f"{stem}{ending}" for stem in stems for ending in (".md", ".tex", ".html", ".csv")}
    text = written["digits-epochs-4.md"].read_text()
    assert "over 3 seeds. Test metrics after the last epoch. Bold" in text
    lines = [line for line in text.split("\n") if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert "Mean rank over 2 problems" in written["all-problems.md"].read_text()


def test_csv_holds_all_digits(root, written):
    rows = list(csv.DictReader(written["digits-epochs-5.csv"].open()))
    values = by_hand(root, "digits(epochs=5)", "UPGrad()", "left").values()
    row = next(row for row in rows if row["method"] == "UPGrad()" and row["column"] == "left accuracy ↑")
    assert float(row["mean"]) == pytest.approx(statistics.mean(values), rel=1e-12)
    assert row["seeds"] == "3"


def test_the_best_and_those_like_it_are_marked():
    best, alike, worse = {0: 1.0, 1: 2.0, 2: 3.0}, {0: 0.5, 1: 2.6, 2: 2.2}, {0: 0.5, 1: 1.51, 2: 2.49}
    assert [cell.best for cell in marked([best, alike, worse], True)] == [True, True, False]
    assert [cell.best for cell in marked([best, alike], True)] == [False, False]  # nobody is the best
    assert [cell.best for cell in marked([{0: 9.0}, {0: 1.0}], True)] == [False, False]  # one seed
    assert [cell.best for cell in marked([best, worse], False)] == [False, True]
    assert [cell.best for cell in marked([best, worse], None)] == [False, False]
    assert marked([best, {}, worse], True)[1] is None
    elsewhere = {7: 1.8, 8: 1.9, 9: 2.0}  # shares no seed with the best, so nothing says that it is as good
    assert [cell.best for cell in marked([best, elsewhere, worse], True)] == [True, False, False]


def sheet(name=HOSTILE):
    from accord.bench.stats import Interval

    cell = Cell(Interval(-0.5, -0.75, -0.25, 3), best=True)
    return Sheet(name, name, name, ("method",), (Head(name, 2),), (((name,), (cell,)), ((name,), (None,))))


def test_latex_is_escaped_and_balanced():
    text = formats.latex(sheet())
    escaped = (
        r"\textbackslash{}cmd\{x\} 50 \% \& \$a\$ \#1 \_b\_ \textasciitilde{}c\textasciicircum{}2 "
        r"\textless{}i\textgreater{} \textbar{} ''q'' {[}z{]} {*}s{*} {[}U+65E5{]} é"
    )
    assert text.count(escaped) == 5  # title and caption, header, two rows
    assert r"\textbf{$-$0.50 $\pm$ 0.25}" in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    rows = [line for line in text.split("\n") if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [1, 1, 1]
    assert not re.search(r"(?<!\\)[#_%](?!.*booktabs)", text.replace("% in the preamble", ""))


def test_markdown_is_escaped():
    lines = [line for line in formats.markdown(sheet()).split("\n") if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3, 3]
    assert r"\<i\> \|" in lines[0]
    assert "**−0.50 ± 0.25**" in lines[2]


def test_html_takes_names_as_they_are():
    found = []

    class Text(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append(tag)

        def handle_data(self, data):
            found.append(data)

    Text().feed(formats.page(sheet()))
    assert "i" not in found
    assert found.count(HOSTILE) == 4  # title, header, two rows
    assert "strong" in found


def test_formats_can_be_chosen_and_are_checked(root, tmp_path):
    assert {path.suffix for path in write.write(load_runs(root), tmp_path, ["latex", "csv"])} == {".tex", ".csv"}
    with pytest.raises(AccordError, match="format 'latx' is unknown. Did you mean 'latex'"):
        write.write(load_runs(root), tmp_path, ["latx"])


def test_a_learning_rate_per_method_is_a_column(make):
    study = make(methods=["Sum()", "UPGrad()"], seeds=2, probes=3)
    for trial in study.arms[1].trials:
        trial.run.config.__dict__["lr"] = 0.5
    found = of_study(study)
    assert found.words == ("method", "learning rate")
    assert [row[0] for row in found.rows] == [("Sum()", "0.001"), ("UPGrad()", "0.5"), ("each task alone", "")]


def test_flat_delta_m_is_shown_where_it_differs(make):
    study = make(methods=["Sum()"], seeds=2, probes=3)
    for arm in (*study.arms, *study.singles.values()):
        for trial in arm.trials:
            if "left" in trial.run.result["test"]:
                value = {"value": 1.0 + (arm in study.arms), "higher_is_better": True}
                trial.run.result["test"]["left"]["measures"] = {"x": value, "y": value}
    heads = [head.name for head in of_study(study).heads]
    assert heads[:2] == ["left x ↑", "left y ↑"]
    cells = dict(zip(heads, of_study(study).rows[0][1], strict=True))
    flat, per_task = (cells[f"Δm{word} % ↑"].value.mean for word in (" flat", ""))
    rest = 3 * per_task - 1  # the sum over the two other tasks
    assert flat == pytest.approx((2 + rest) / 4)


def test_one_seed_has_no_best(tmp_path):
    sample.write(tmp_path, sample.Sample(methods=METHODS, seeds=1, probes=3))
    found = of_study(studies(load_runs(tmp_path))[0])
    assert "One seed: there are no intervals, and no best." in found.caption
    assert not any(cell.best for _, row in found.rows for cell in row if cell)


def test_suite_without_ranking_says_why(tmp_path):
    for epochs in (4, 5):
        one = sample.Sample(f"digits(epochs={epochs})", METHODS, seeds=1, probes=3, settings={"epochs": epochs})
        sample.write(tmp_path, one)
    suite = Suite(tuple(studies(load_runs(tmp_path))))
    assert isinstance(suite.ranking, str)
    assert "No mean rank" in write.of_suite(suite).caption
