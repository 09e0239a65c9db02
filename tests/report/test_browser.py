"""The page in a real browser: silent console, drawn plots, the right width, a selector that works."""

from __future__ import annotations

import pytest
from browser import Browser, find

from accord.report import page

import sample

pytestmark = pytest.mark.browser
DRAWN = "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('svg.main-svg'))"
# pictures are drawn when they come into view
SCROLL = """new Promise(async (done) => {
  for (const plot of document.querySelectorAll('.plot')) {
    plot.scrollIntoView({ behavior: "instant" });
    await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
  }
  done(true);
})"""


@pytest.fixture(scope="module")
def browser():
    program = find()
    if program is None:
        pytest.skip("no Chromium found (chromium, google-chrome): the report was not tried in a browser")
    with Browser(program) as started:
        yield started


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    return page.write(runs, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    names = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "<b>" + "long" * 40)
    sample.write(root / "runs", sample.Sample(tasks=names, methods=["Sum()", "UPGrad()"], seeds=2, probes=10))
    return page.write(sample.read(root / "runs"), root / "report.html")


def shown(browser, path, width=1280):
    """Open a page and draw everything on it, unless the test before left it so."""
    if browser.left != (path, width):
        browser.open(path, width=width, mobile=width < 500)
        browser.evaluate(SCROLL)
        browser.until(DRAWN)
        browser.left = path, width


@pytest.mark.parametrize("name", ["report", "hostile"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_the_console_is_silent(browser, request, name, width):
    path = request.getfixturevalue(name)
    shown(browser, path, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("innerWidth") == width
    wide = "[...document.querySelectorAll('.plot')].filter((p) => p.getBoundingClientRect().right > innerWidth).length"
    assert browser.evaluate(wide) == 0
    assert browser.problems() == []
    assert browser.requests() == [path.resolve().as_uri()]


def test_names_do_nothing(browser, hostile):
    shown(browser, hostile)
    assert browser.evaluate("document.querySelectorAll('.plot img, .plot script, .plot b, h4 b').length") == 0
    titles = browser.evaluate("[...document.querySelectorAll('#p0-losses_time h4')].map((title) => title.textContent)")
    assert titles[0] == "<script>alert(1)</script>"
    assert not [event for event in browser.events if event.get("method") == "Page.javascriptDialogOpening"]


def test_every_plot_has_marks(browser, report):
    shown(browser, report)
    assert browser.evaluate("document.querySelectorAll('.plot').length") > 20
    empty = """[...document.querySelectorAll('.plot')].filter((plot) =>
      !plot.querySelector('.scatterlayer path, .barlayer path, .heatmaplayer image')).length"""
    assert browser.evaluate(empty) == 0


def test_one_choice_switches_all_charts_of_a_method(browser, report):
    shown(browser, report)
    browser.left = None  # it is changed here
    cell = "document.querySelector('#p0-pair_cosine .heatmaplayer').textContent"
    before = browser.evaluate(cell)
    browser.evaluate("document.querySelectorAll('.bar input')[3].click()")
    chosen = "[...document.querySelectorAll('.chosen')].map((label) => label.textContent)"
    assert set(browser.evaluate(chosen)) == {"PCGrad()"}
    browser.until(DRAWN)
    assert browser.evaluate(cell) != before
    assert browser.problems() == []


def test_the_choice_works_from_the_keyboard(browser, report):
    browser.open(report, width=1280)
    browser.evaluate("document.querySelector('.bar input').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    assert browser.evaluate("document.querySelector('.chosen').textContent") == "CAGrad(c=0.5)"


def test_a_series_can_be_hidden_everywhere(browser, report):
    shown(browser, report)
    browser.left = None  # it is changed here
    browser.evaluate("document.querySelector('#p0-losses_time .legend button').click()")
    hidden = """[...document.querySelectorAll('#p0-losses_time .plot')].map((plot) =>
      plot.data.filter((trace) => trace.visible === false).map((trace) => trace.meta))"""
    assert browser.evaluate(hidden) == [["Sum()", "Sum()"]] * 3  # the line and its band
    assert browser.evaluate("document.querySelector('#p0-losses_time .legend button').ariaPressed") == "false"


def test_the_numbers_of_a_chart_open_as_a_table(browser, report):
    browser.open(report, width=1280)
    browser.evaluate("document.querySelector('#p0-pair_cosine details').open = true")
    cells = "[...document.querySelectorAll('#p0-pair_cosine details th')].map((cell) => cell.textContent)"
    browser.until("document.querySelector('#p0-pair_cosine details table') !== null")
    assert browser.evaluate(cells) == ["task", "left", "right", "sum", "left", "right", "sum"]


def test_the_results_can_be_sorted(browser, report):
    browser.open(report, width=1280)
    header = "document.querySelectorAll('.results thead th')[6]"
    assert browser.evaluate(f"{header}.textContent") == "against Sum()"
    browser.evaluate(f"{header}.querySelector('button').click()")
    column = "[...document.querySelectorAll('.results tbody tr')].map((row) => row.cells[6].textContent)"
    values = [float(text.split()[0].replace("−", "-")) for text in browser.evaluate(column) if text != "–"]
    assert values == sorted(values, reverse=True)
    assert len(values) == 4


def test_the_dark_scheme_changes_page_and_plots(browser, report):
    colour = "getComputedStyle(document.body).backgroundColor"
    tick = "getComputedStyle(document.querySelector('#p0-difference .xtick text')).fill"
    found = []
    for dark in (False, True):
        browser.open(report, width=1280, dark=dark)
        browser.until("document.querySelector('#p0-difference .xtick text') !== null")
        found.append((browser.evaluate(colour), browser.evaluate(tick)))
        assert browser.problems() == []
    assert found == [("rgb(246, 247, 249)", "rgb(29, 33, 40)"), ("rgb(20, 22, 26)", "rgb(233, 235, 239)")]
