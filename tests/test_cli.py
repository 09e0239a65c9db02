"""The command line as a user meets it: verbs, mistakes, Ctrl-C, kill -9, workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from accord import cli
from accord.bench import pool, store
from accord.bench.run import run
from accord.cli import demo, show
from accord.cli.commands import spelling
from accord.errors import AccordError
from accord.methods import METHODS
from accord.problems import PROBLEMS, Digits
from accord.report import figures
from accord.report.plots.learning import learning
from stored import TINY, start, tiny, wait_for, wait_until, without_times

LONG = "digits(train=512, validation=32, test=32, epochs=40, batch=16)"  # long enough to be stopped in the middle


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Call the command line in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return called


def mistake(outcome: tuple[int, str, str]) -> str:
    """The one line of a mistake."""
    code, _, text = outcome
    assert code == 2
    assert text.count("\n") == 1, text
    assert text.startswith("accord: ")
    assert "Traceback" not in text
    return text.strip()


def test_run_prints_a_table_and_says_where_the_report_comes_from(call, tmp_path):
    code, out, err = call("run", TINY, "--method", "Sum()", "--method", "UPGrad", "--seeds", 2, "--single-tasks")
    assert (code, err) == (0, "")
    assert len(store.load_runs(tmp_path / "runs")) == 2 * 2 + 3 * 2
    assert "[10/10] single-sum, seed 1: sum 0." in out
    assert "UPGrad()" in out
    assert "single tasks" in out
    assert "Δm %" in out
    assert "optimiser's step" in out
    assert f"accord report 'runs/{TINY}'" in out


def test_a_second_call_skips_what_is_finished(call, monkeypatch):
    call("run", TINY, "--seeds", 1)
    monkeypatch.setattr("accord.bench.run.Training", None)  # nothing may be trained
    code, out, _ = call("run", TINY, "--seeds", 1)
    assert code == 0
    assert "was finished" in out


def test_options_reach_the_configuration(call, tmp_path):
    options = {
        "scale": "mean", "heads": "weighted", "engine": "segmented", "lr": 0.5, "optimizer": "SGD", "monitor-every": 3,
        "select": "validation", "threads": 2, "epochs": 1, "seeds": 1, "method": "CAGrad(c=0.1)", "out": "elsewhere",
    }  # fmt: skip
    flat = [part for name, value in options.items() for part in (f"--{name}", value)]
    assert call("run", TINY, *flat)[0] == 0
    (found,) = store.load_runs(tmp_path / "elsewhere")
    config = found.config
    assert config.epochs == 1
    assert (config.scale, config.heads, config.engine, config.lr) == ("mean", "weighted", "segmented", 0.5)
    assert (config.optimizer, config.monitor_every, config.select, config.threads) == ("SGD", 3, "validation", 2)
    assert config.method == "CAGrad(c=0.1)"


def test_help_lists_every_problem_and_method(call):
    code, out, _ = call("run", "--help")
    assert code == 0
    for kind in (*PROBLEMS, *METHODS):
        assert f"  {spelling(kind)}\n" in out
    assert call()[1].count("demo")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "digts"], "problem 'digts' is unknown. Did you mean 'digits'?"),
        (["run", "digits", "--method", "UPgrad()"], "method 'UPgrad' is unknown. Did you mean 'UPGrad'?"),
        (["run", "digits", "--method", "CAGrad(k=2)"], "CAGrad has no argument 'k'"),
        (["run", "digits", "--seeds", "-1"], "--seeds is -1; expected at least 1"),
        (["run", "digits", "--seeds", "three"], "--seeds"),
        (["run", "digits", "--epochs", "0"], "epochs is 0"),
        (["run", "digits", "--jobs", "0"], "jobs is 0"),
        (["run", "digits", "--lr", "-1"], "lr is -1.0"),
        (["run", "digits", "--scale", "sun"], "scale='sun'"),
        (["run", "digits", "--sedes", "1"], "--sedes"),
        (["run"], "problem"),
        (["rnu"], "Did you mean 'run'?"),
        (["report", "nowhere"], "nowhere does not exist"),
        (["report"], "runs"),
    ],
)
def test_mistakes_give_one_line(call, arguments, expected, tmp_path):
    assert expected.lower() in mistake(call(*arguments)).lower()
    assert not list(tmp_path.iterdir()), "nothing is begun before everything is checked"


def test_a_place_that_cannot_be_written(call, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in mistake(call("run", TINY, "--out", "file/runs"))
    assert call("run", TINY, "--seeds", 1)[0] == 0
    assert "cannot be written" in mistake(call("report", "runs", "--out", "file/report.html"))


def test_a_damaged_run_folder(call, tmp_path):
    assert call("run", TINY, "--seeds", 1)[0] == 0
    path = next(tmp_path.rglob("result.json"))
    path.write_text("{")
    for arguments in (["run", TINY, "--seeds", 1], ["report", "runs"], ["run", TINY, "--seeds", 2, "--jobs", 2]):
        assert f"{path.name} is damaged" in mistake(call(*arguments))


def test_another_configuration_in_the_same_folder(call):
    assert call("run", TINY, "--seeds", 1)[0] == 0
    text = mistake(call("run", TINY, "--seeds", 1, "--lr", 0.5))
    assert "holds a run with lr=0.003, and this one has lr=0.5" in text


def test_missing_data_are_named(call, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_DATA", str(tmp_path))
    assert "set ACCORD_DATA to the folder" in mistake(call("run", "multimnist"))


def test_report_writes_page_and_figures(call, tmp_path, monkeypatch):
    """One figure will do: report/test_figures.py draws them all."""
    monkeypatch.setattr(figures, "PLOTS", (learning,))
    assert call("run", TINY, "--seeds", 1, "--method", "Sum()", "--method", "UPGrad()")[0] == 0
    code, out, err = call("report", "runs", "--out", "deep/page.html", "--figures", "figures")
    assert (code, err) == (0, "")
    assert "deep/page.html" in out
    assert "<html" in (tmp_path / "deep" / "page.html").read_text()[:200].lower()
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".pdf", ".png"}


@pytest.mark.parametrize("name", ["typer", "safetensors"])
def test_a_missing_extra_is_named(name):
    code = f"import sys; sys.modules[{name!r}] = None; from accord.cli import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"accord: the command line needs {name}: pip install 'accord[bench]'\n"


def test_kill_and_resume_equal_an_unbroken_run(tmp_path):
    """kill -9 in the middle of an epoch of a sparse run; then the same command again. (Suites: bench/test_kill.py.)"""
    problem = "digits(train=512, validation=32, test=32, batch=16)"
    config = tiny(problem=problem, epochs=8, method="UPGrad()", monitor_every=3, sparse="PSN(density=0.5)")
    arguments = ["run", problem, "--epochs", 8, "--method", "UPGrad()", "--seeds", 1, "--monitor-every", 3]
    arguments += ["--sparse", "PSN(density=0.5)"]
    arguments += ["--out", tmp_path / "a"]
    folder = tmp_path / "a" / config.place
    process = start(*arguments)
    wait_for(lambda: (folder / "checkpoint.safetensors").exists(), process, "the first checkpoint")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "result.json").exists(), "killed too late"
    assert store.load(folder).record() is not None, "what was flushed can be read"
    again = start(*arguments)
    _, err = again.communicate()
    assert (again.returncode, err) == (0, "")
    resumed, unbroken = store.load(folder), run(config, tmp_path / "b")
    for found in (resumed, unbroken):
        del found.result["sparse"]["seconds"]  # that choosing took
    assert without_times(resumed) == without_times(unbroken)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c(tmp_path, jobs):
    """The whole process group hears it, as in a terminal; nothing is left behind but whole files."""
    process = start("run", LONG, "--seeds", 2, "--jobs", jobs, "--out", tmp_path)
    wait_for(lambda: list(tmp_path.rglob("checkpoint.safetensors")), process, "the first checkpoint")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.strip() == "Stopped. The same command goes on from the last finished epoch of each run."
    wait_until(lambda: no_process_in(process.pid), "end of all workers")
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or path.suffix in (".json", ".safetensors", ".parquet"), path
        if path.suffix == ".json":
            json.loads(path.read_text())
    assert not any(found.finished for found in store.load_runs(tmp_path))


def no_process_in(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


class Quiet:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.complete: list[int] = []

    def epoch(self, index: int, done: int) -> None:
        self.seen.append((index, done))

    def finished(self, index: int, run: store.Run) -> None:
        self.complete.append(index)


CONFIGS = [tiny(method=method, seed=seed) for method in ("Sum()", "RandomWeighting()") for seed in (0, 1)]


def test_workers_give_the_same_numbers(tmp_path):
    one, two = Quiet(), Quiet()
    alone = pool.execute(CONFIGS, tmp_path / "alone", one)
    together = pool.execute(CONFIGS, tmp_path / "together", two, jobs=2)
    assert list(map(without_times, together)) == list(map(without_times, alone))
    assert sorted(two.seen) == sorted(one.seen) == [(i, done) for i in range(4) for done in range(4)]
    assert sorted(two.complete) == one.complete == [0, 1, 2, 3]
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_is_reported(tmp_path):
    class Killer(Quiet):
        def epoch(self, index: int, done: int) -> None:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with pytest.raises(AccordError, match=r"ended with exit code -9 .*goes on from its last finished epoch"):
        pool.execute(CONFIGS, tmp_path, Killer(), jobs=2)
    assert not multiprocessing.active_children()


def test_an_error_in_a_worker_rises_there_and_is_reported_here(tmp_path, monkeypatch, capfd):
    def broken(*_):
        raise ZeroDivisionError("a bug, no mistake of the user")

    fork = multiprocessing.get_context("fork")  # a forked worker inherits what is broken here
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda kind: fork)
    monkeypatch.setattr(pool, "run", broken)
    with pytest.raises(AccordError, match=r"ended with exit code 1 .*an error, shown above"):
        pool.execute(CONFIGS, tmp_path, Quiet(), jobs=2)
    assert "ZeroDivisionError: a bug, no mistake of the user" in capfd.readouterr().err
    assert not multiprocessing.active_children()


def test_the_demo_is_what_it_says(monkeypatch):
    configs = demo.configs()
    assert len({config.place for config in configs}) == len(configs) == 3 * (5 + 3) + 3 * (2 + 2)
    assert {config.method for config in configs} == {
        "Sum()", "PCGrad()", "UPGrad()", "CAGrad(c=0.5)", "NashMTL(max_norm=1.0)",
    }  # fmt: skip
    assert [config.problem.split("(")[0] for config in configs] == ["digits"] * 24 + ["tpp-hawkes"] * 12
    assert demo.default_jobs() in (1, 2)


def test_demo_from_end_to_end(call, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "accord.cli.demo.configs", lambda: [tiny(seed=s, **extra) for s in range(2) for extra in EXTRAS]
    )
    code, out, err = call("demo", "--out", "demo", "--jobs", 1)
    assert (code, err) == (0, "")
    joined = " ".join(out.split())
    assert "under the plain sum" in joined
    assert "of the task pairs had gradients with a negative cosine" in joined
    assert "Resolving it" in joined
    assert joined.endswith("Report: demo/report.html")
    assert (tmp_path / "demo" / "report.html").stat().st_size > 100_000


EXTRAS = [{"method": "Sum()"}, {"method": "UPGrad()"}, *({"tasks": (task,)} for task in Digits.tasks)]


def test_a_terminal_sees_a_bar_and_no_lines(monkeypatch, tmp_path, capsys):
    from rich.console import Console

    monkeypatch.setattr(show, "console", lambda: Console(force_terminal=True, width=80))
    show.execute([tiny(epochs=1)], tmp_path, 1)
    out = capsys.readouterr().out
    assert "1 of 1 runs finished" in out
    assert "seed 0" not in out
