"""``accord tpp`` as a user meets it: from a table to a model, its figures, predictions, pictures; and mistakes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from accord import cli
from accord.cli.reading import Reading
from accord.cli.tpp.chosen import choose
from accord.cli.tpp.measuring import Measured
from accord.cli.tpp.source import training
from accord.tpp import checkpoint, store
from accord.tpp.batch import collate
from accord.tpp.build import build
from accord.tpp.evaluate import evaluate
from accord.tpp.events import Events
from accord.tpp.predict import predict
from stored import start, wait_for

DATES = ["--sequence", "user", "--time", "at", "--mark", "page"]
FROM_FILE = ["--option", "sequence=user", "--option", "time=at", "--option", "mark=page"]


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Call the command line in an empty folder with a data folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ACCORD_DATA", str(tmp_path / "data"))

    def called(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return called


def table(path: Path, seed: int, users: int = 30, pages: tuple[str, ...] = ("help", "home", "shop")) -> Path:
    """Clicks of some users since 1970-01-01, in seconds."""
    rng = np.random.default_rng(seed)
    lines = ["user,at,page"]
    for user in range(users):
        at = 1.3e9 + np.cumsum(rng.exponential(600.0, size=int(rng.integers(4, 9)))).round()
        lines += [f"u{user},{t:.0f},{rng.choice(pages)}" for t in at]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def clicks(call, tmp_path):
    """An imported table."""
    arguments = ["data", "import", table(tmp_path / "clicks.csv", 0), "--as", "clicks", "--unit", "second", *DATES]
    assert call(*arguments)[0] == 0
    return "tpp:clicks"


@pytest.fixture
def fitted(call, clicks):
    """The folder of a model of it."""
    assert call("tpp", "fit", clicks, "lnm+", "--out", "fit", "--epochs", 2)[0] == 0
    return Path("fit")


def mistake(outcome: tuple[int, str, str]) -> str:
    code, _, text = outcome
    assert code == 2
    assert 1 <= text.count("\n") <= 2, text
    assert text.startswith("accord: ")
    assert "Traceback" not in text
    return text.strip()


def test_fit_prints_progress_and_writes_model_and_history(call, clicks):
    code, out, err = call("tpp", "fit", clicks, "thp+", "--out", "deep/fit", "--epochs", 2)
    assert (code, err) == (0, "")
    assert "epoch 1 of at most 2: validation NLL: time" in out
    assert "accord tpp evaluate deep/fit tpp:clicks" in out
    history = json.loads(Path("deep/fit/history.json").read_text())
    assert [line["epoch"] for line in history["history"]] == [1, 2]
    assert history["best"]["joint"] in (1, 2)
    _, about = checkpoint.load("deep/fit/model.safetensors")
    taken = training(clicks, Reading(), 0)
    assert about["marks"] == ["help", "home", "shop"]
    assert (about["unit"], about["factor"], about["offset"]) == ("second", taken.done.factor, taken.done.offset)
    assert about["settings"]["tick"] == taken.splits.train.tick


def test_options_reach_the_training(call, clicks):
    options = {
        "history": "attention", "encoding": "log_concatenate", "batch": 4, "patience": 3, "lr": 0.02, "seed": 1,
        "stopping": "joint", "epochs": 1, "method": "UPGrad()",
    }  # fmt: skip
    flat = [part for name, value in options.items() for part in (f"--{name}", value)]
    assert call("tpp", "fit", clicks, "thp", "--out", "fit", "--paper-compat", *flat)[0] == 0
    model, about = checkpoint.load("fit/model.safetensors")
    assert (model.settings["history"], model.settings["encoding"]) == ("attention", "log_concatenate")
    assert (about["seed"], about["paper_compat"]) == (1, True)
    assert about["settings"] | options == about["settings"] | {"seed": 1}
    assert "event 1 is not scored" in call("tpp", "evaluate", "fit", clicks)[1]


def test_the_same_command_does_nothing_more_and_more_epochs_go_on(call, clicks):
    arguments = ["tpp", "fit", clicks, "thp+", "--lr", 0.01, "--out"]
    assert call(*arguments, "a", "--epochs", 1)[0] == 0
    code, out, _ = call(*arguments, "a", "--epochs", 1)
    assert code == 0
    assert "epoch 1 of" not in out
    assert "epoch 1 of" not in call(*arguments, "a", "--epochs", 3)[1]
    assert call(*arguments, "b", "--epochs", 3)[0] == 0
    one, other = (checkpoint.load(f"{folder}/model.safetensors")[0].state_dict() for folder in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_method_keeps_its_memory(call, clicks):
    arguments = ["tpp", "fit", clicks, "thp", "--method", "GradNorm()", "--out"]
    assert call(*arguments, "a", "--epochs", 1)[0] == 0
    assert call(*arguments, "a", "--epochs", 2)[0] == 0
    assert call(*arguments, "b", "--epochs", 2)[0] == 0
    one, other = (checkpoint.load(f"{folder}/model.safetensors")[0].state_dict() for folder in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ctrl_c_and_the_same_command_again(call, clicks, tmp_path):
    arguments = ["tpp", "fit", clicks, "thp+", "--patience", 5000, "--batch", 4]
    process = start(*arguments, "--epochs", 5000, "--out", tmp_path / "a")
    wait_for(lambda: (tmp_path / "a" / "training.safetensors").exists(), process, "the first epoch")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.strip().startswith("Stopped after epoch ")
    assert err.strip().endswith("The same command goes on from the last finished epoch.")
    assert not (tmp_path / "a" / "model.safetensors").exists()
    done = len(checkpoint.read(tmp_path / "a" / "training.safetensors")[1]["rest"]["history"])
    for folder in "ab":
        assert call(*arguments, "--epochs", done + 1, "--out", folder)[0] == 0
    one, other = (checkpoint.load(f"{folder}/model.safetensors")[0].state_dict() for folder in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_that_failed_at_once_keeps_no_folder(call, clicks):
    arguments = ["tpp", "fit", clicks, "thp", "--out", "fit", "--epochs", 1]
    assert "loss became" in mistake(call(*arguments, "--lr", "1e30", "--batch", 4))
    assert call(*arguments)[0] == 0


def test_files_without_an_import(call, tmp_path):
    """A folder of parts, read with options that the model remembers."""
    (tmp_path / "parts").mkdir()
    for seed, part in enumerate(("train", "val", "test")):
        table(tmp_path / "parts" / f"{part}.csv", seed, users=8)
    assert call("tpp", "fit", "parts", "rmtpp", "--out", "fit", "--epochs", 1, *FROM_FILE)[0] == 0
    for data in ("parts", tmp_path / "parts"):
        code, out, _ = call("tpp", "evaluate", "fit", data)
        assert code == 0
        assert "8 sequences of test" in " ".join(out.split())
    (tmp_path / "parts" / "test.csv").unlink()
    text = mistake(call("tpp", "fit", "parts", "rmtpp", "--out", "b", *FROM_FILE))
    assert "has the parts train, validation; expected train, validation, test, or a single part" in text


def test_one_mark_and_lonely_events(call, tmp_path):
    """Nothing to predict about marks, sequences of a single event, everything at one moment."""
    rows = [f"{s},{t},a" for s in range(40) for t in ([3.0] if s % 9 == 0 else [1.0, 1.0, 2.0 + s])]
    (tmp_path / "one.csv").write_text("\n".join(["sequence,time,mark", *rows]))
    assert call("tpp", "fit", "one.csv", "sahp", "--out", "fit", "--epochs", 1)[0] == 0
    for verb in (["evaluate"], ["predict"], ["predict", "--after"], ["anomalies"], ["plot"]):
        assert call("tpp", *verb, "fit", "one.csv")[0] == 0, verb
    assert call("tpp", "conflict", "one.csv", "thp", "--epochs", 1)[0] == 0


def test_evaluate_prints_both_definitions_conventions_and_baselines(call, clicks, fitted):
    code, out, err = call("tpp", "evaluate", fitted, clicks, "--json", "found/e.json", "--marginal", "--crps")
    assert (code, err) == (0, "")
    for text in ("as published", "corrected", "Kolmogorov-Smirnov", "CRPS of the gap, second", "markov", "this model"):
        assert text in out
    assert "event 1 is not scored; ends of windows are unknown (censoring: unknown)" in out
    found = json.loads(Path("found/e.json").read_text())
    chosen = choose(fitted, clicks, None, Reading())
    direct = evaluate(chosen.model, training(clicks, Reading(), 0).splits.test, marginal=True, crps=True)
    for name, value in direct.values.items():
        factor = chosen.about.factor if name in ("mae", "rmse", "crps") else 1.0
        assert found["figures"][name] == pytest.approx(value / factor), name
    assert found["part"] == "test"
    assert set(found["baselines"]) == {"unigram", "repeat-last", "markov"}
    assert found["unit"] == "second"


def test_other_parts_and_conventions(call, clicks, fitted):
    code, out, _ = call("tpp", "evaluate", fitted, clicks, "--part", "train", "--paper-compat")
    assert code == 0
    assert "18 sequences of train" in " ".join(out.split())
    assert "ends of windows are left out" in out
    assert "there is no part 'tests'" in mistake(call("tpp", "evaluate", fitted, clicks, "--part", "tests"))


def test_other_data_get_the_scale_and_the_vocabulary_of_the_model(call, fitted, tmp_path):
    fewer = table(tmp_path / "new.csv", 5, users=4, pages=("shop", "home"))  # in another order, one missing
    options = [
        part
        for name, column in zip(DATES[::2], DATES[1::2], strict=True)
        for part in ("--option", f"{name[2:]}={column}")
    ]
    assert call("tpp", "evaluate", fitted, fewer, *options, "--json", "e.json")[0] == 0
    chosen = choose(fitted, str(fewer), None, Reading(None, {"sequence": "user", "time": "at", "mark": "page"}))
    assert chosen.events.marks == ("help", "home", "shop")
    rows = fewer.read_text().splitlines()[1:]
    assert [chosen.events.marks[k] for k in chosen.events.mark] == [row.split(",")[2] for row in rows]
    np.testing.assert_allclose(
        chosen.about.original(chosen.events.time), [float(row.split(",")[1]) for row in rows], rtol=1e-12
    )
    gaps = np.diff(chosen.events.time) / chosen.about.factor
    np.testing.assert_allclose(gaps, np.diff([float(row.split(",")[1]) for row in rows]), atol=1e-3)
    assert chosen.train is not None
    assert chosen.seen == 0


def test_unknown_marks_and_other_units_are_refused(call, fitted, tmp_path):
    table(tmp_path / "new.csv", 5, users=4, pages=("home", "cart"))
    assert call("data", "import", "new.csv", "--as", "new", *DATES)[0] == 0
    for verb in ("evaluate", "predict", "plot", "anomalies"):
        text = mistake(call("tpp", verb, fitted, "tpp:new"))
        assert "marks that the model does not know, such as 'cart'; it knows help, home, shop" in text
    table(tmp_path / "hours.csv", 5, users=4)
    assert call("data", "import", "hours.csv", "--as", "hours", "--unit", "hour", *DATES)[0] == 0
    assert "times are in hour, and the model was fitted on second" in mistake(
        call("tpp", "evaluate", fitted, "tpp:hours")
    )


def test_training_sequences_among_other_data_are_counted(call, fitted, tmp_path):
    assert call("data", "import", "clicks.csv", "--as", "again", *DATES)[0] == 0
    out = call("tpp", "evaluate", fitted, "tpp:again")[1]
    assert "18 of these sequences are among those that the model was fitted on" in out


def test_data_that_changed_are_refused_and_lost_ones_missed(call, clicks, fitted, tmp_path):
    table(tmp_path / "clicks.csv", 9)
    assert call("data", "import", "clicks.csv", "--as", "clicks", "--replace", "--unit", "second", *DATES)[0] == 0
    assert "has changed since the model was fitted" in mistake(call("tpp", "evaluate", fitted, clicks))
    assert "holds a training on other sequences" in mistake(
        call("tpp", "fit", clicks, "lnm+", "--out", "fit", "--epochs", 2)
    )
    table(tmp_path / "new.csv", 5)
    assert call("data", "import", "new.csv", "--as", "new", *DATES)[0] == 0
    code, out, _ = call("tpp", "evaluate", fitted, "tpp:new")
    assert code == 0
    assert "No baselines of the mark: tpp:clicks" in out


def test_predictions_are_in_the_units_and_names_of_the_data(call, clicks, fitted):
    code, out, _ = call("tpp", "predict", fitted, clicks, "--out", "deep/p.csv")
    assert code == 0
    assert "predictions of test: deep/p.csv" in out
    found = pl.read_csv("deep/p.csv")
    chosen = choose(fitted, clicks, None, Reading())
    direct = predict(chosen.model, chosen.events)
    assert len(found) == len(direct.index)
    events, about = chosen.events, chosen.about
    gaps = (found["time"] - found["since"]).to_numpy()
    np.testing.assert_allclose(gaps, events.gaps[direct.index] / about.factor, rtol=1e-6)
    np.testing.assert_allclose(
        (found["predicted_time"] - found["since"]).to_numpy(), direct.gap / about.factor, rtol=1e-5
    )
    assert found["predicted_mark"].to_list() == [about.marks[k] for k in direct.mark]
    assert found["mark"].to_list() == [about.marks[k] for k in events.mark[direct.index]]
    assert (found["time_5%"] <= found["time_95%"]).all()
    assert found["event"].min() == 1, "first events are not predicted: the start is unknown"
    assert found["likeliest_mark_probability"].is_between(1 / 3 - 1e-6, 1).all()


def test_predictions_after_the_end(call, clicks, fitted):
    assert call("tpp", "predict", fitted, clicks, "--after", "--time", "mean", "--out", "p.csv")[0] == 0
    found = pl.read_csv("p.csv")
    events = choose(fitted, clicks, None, Reading()).events
    assert found["sequence"].to_list() == list(range(len(events)))
    assert (found["predicted_time"] > found["since"]).all()
    assert "event" not in found.columns
    assert "time='soon'" in mistake(call("tpp", "predict", fitted, clicks, "--time", "soon"))


def test_simulated_events_are_imported_and_evaluated(call, fitted):
    code, out, _ = call("tpp", "simulate", fitted, "--count", 30, "--end", 5000, "--out", "sim.csv", "--seed", 3)
    assert code == 0
    command = out.strip().splitlines()[-1].removeprefix("Read it again: accord ").replace("NAME", "sim").split()
    assert call(*command)[0] == 0
    (events,) = store.load("sim", Path("data") / "imported").values()
    assert set(events.marks) <= {"help", "home", "shop"}
    np.testing.assert_allclose(events.end - events.start, 5000)
    assert (events.gaps >= 0).all()
    code, out, _ = call("tpp", "evaluate", fitted, "tpp:sim", "--json", "e.json")
    assert code == 0
    assert "event 1 is scored; the wait to the end of the window counts in 100%" in out
    figures = json.loads(Path("e.json").read_text())["figures"]
    assert figures["ks"] < 1.63 / np.sqrt(events.time.size) + 0.1, "the model is the truth here"


def test_plots_are_drawn_and_explained(call, clicks, fitted):
    code, out, _ = call("tpp", "plot", fitted, clicks, "--out", "figures", "--sequence", 2)
    assert code == 0
    names = {"intensity", "mark_reliability", "time_reliability", "time_rescaling"}
    assert {path.name for path in Path("figures").iterdir()} == {
        f"{n}.{kind}" for n in names for kind in ("png", "pdf")
    }
    assert all(path.stat().st_size > 4000 for path in Path("figures").iterdir())
    for name in names:
        assert f"figures/{name}.png and .pdf: " in out
    assert "there is no sequence 99" in mistake(call("tpp", "plot", fitted, clicks, "--sequence", 99))


def test_anomalies_rank_what_was_not_expected(call, fitted, tmp_path):
    text = (tmp_path / "clicks.csv").read_text()
    (tmp_path / "odd.csv").write_text(text.replace("u1,", "odd,", 1).rstrip() + "\nodd,1500000000,help\n")
    assert call("data", "import", "odd.csv", "--as", "odd", *DATES)[0] == 0
    code, out, _ = call("tpp", "anomalies", fitted, "tpp:odd", "--out", "a.csv")
    assert code == 0
    found = pl.read_csv("a.csv")
    assert found["time"][0] == 1500000000
    assert found["late"][0]
    assert found["tail_probability"][0] < 0.01
    assert out.index("1500000000") < out.index("Least expected sequences")


def test_conflict_measures_what_both_train(call, clicks):
    code, out, _ = call("tpp", "conflict", clicks, "thp", "--epochs", 2, "--batch", 6, "--out", "conflict")
    assert code == 0
    assert "GMS" in out
    found = json.loads(Path("conflict/conflict.json").read_text())
    assert set(found["parts"]) == {"encoder", "decoder"}
    assert found["steps"] == 6
    for part in found["parts"].values():
        assert 0 <= part["cg"] <= 1
        assert part["entries"] % found["steps"] == 0
        assert sum(part["histogram"]) == part["entries"] - part["undefined"]
    assert {path.suffix for path in Path("conflict").iterdir()} == {".json", ".png", ".pdf"}
    out = call("tpp", "conflict", clicks, "thp+", "--epochs", 1, "--out", "plus")[1]
    assert "encoder" in out
    assert "decoder" not in out.split("GMS:")[0]


@pytest.mark.parametrize("kind", ["thp", "lnm+", "joint-lnm"])
def test_measured_gramians_are_those_of_gradients_taken_one_by_one(kind):
    events = Events.of([np.arange(1.0, 9.0) ** 1.5] * 3, [np.arange(8) % 3] * 3, start=0.0)
    model = build(kind, 3)
    batch = collate(events)
    measured = Measured(model, 1)
    measured(model(batch).losses("sum"))
    filled = [p.grad for p in model.parameters()]
    rows = [
        torch.autograd.grad(model(batch).losses("sum")[task], list(model.parameters()), allow_unused=True)
        for task in ("time", "mark")
    ]
    both = {
        name: torch.stack([g.double().flatten(), h.double().flatten()])
        for (name, _), g, h in zip(model.named_parameters(), *rows, strict=True)
        if g is not None and h is not None
    }
    assert list(measured.names) == list(both)
    for b, pair in enumerate(both.values()):
        np.testing.assert_allclose(measured.exact[0][b], pair @ pair.T, rtol=1e-5)
        kept = torch.where(pair.abs() < 1e-6, 0.0, pair)
        np.testing.assert_allclose(measured.thresholded[0][b], kept @ kept.T, rtol=1e-5)
    for g, h, total in zip(*rows, filled, strict=True):
        expected = sum(part for part in (g, h) if part is not None)
        torch.testing.assert_close(total, expected)


def test_conflict_is_impossible_without_shared_parameters(call, clicks):
    code, out, _ = call("tpp", "conflict", clicks, "thp++", "--out", "none")
    assert code == 0
    assert "no conflict is possible" in out


def test_a_simulated_problem_needs_no_data(call):
    problem = "tpp-hawkes(train=12, validation=6, test=6)"
    assert call("tpp", "fit", problem, "hawkes", "--out", "fit", "--epochs", 1)[0] == 0
    code, out, _ = call("tpp", "evaluate", "fit", problem)
    assert code == 0
    assert "event 1 is scored; the wait to the end of the window counts in 100%" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fit", "tpp:clicks", "thpp", "--out", "x"], "Did you mean 'thp'?"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--history", "gro"], "Did you mean 'gru'?"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--encoding", "log"], "encoding"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--stopping", "tasks"], "needs a model without shared parameters"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--lr", "0"], "--lr is 0.0"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--lr", "1e30"], "loss became"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--epochs", "0"], "--epochs"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--seed", "-1"], "--seed"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--method", "UPgrad"], "Did you mean 'UPGrad'?"),
        (["fit", "tpp:clicks", "thp", "--out", "x", "--method", "FAMO()"], "needs more than the losses"),
        (["fit", "tpp:clicks", "thp", "--out", "clicks.csv/x"], "cannot be written"),
        (["fit", "tpp:clicks", "thp"], "--out"),
        (["fit", "tpp:nothing", "thp", "--out", "x"], "was imported"),
        (["fit", "nothing.csv", "thp", "--out", "x"], "no such file"),
        (["fit", "tpp-mook", "thp", "--out", "x"], "Did you mean 'tpp-mooc'?"),
        (["fit", "tpp-mooc", "thp", "--out", "x"], "ACCORD_DATA"),
        (["fit", "digits", "thp", "--out", "x"], "no set of event sequences"),
        (["fit", "clicks.csv", "thp", "--out", "x"], "unknown format"),
        (["fit", "tpp:clicks", "lnm", "--out", "fit", "--epochs", "2"], "model='lnm+', and this one has 'lnm'"),
        (["evaluate", "nowhere", "tpp:clicks"], "there is no checkpoint nowhere"),
        (["evaluate", "clicks.csv", "tpp:clicks"], "or damaged"),
        (["evaluate", "plain.safetensors", "tpp:clicks"], "does not say on which marks"),
        (["evaluate", "fit", "nothing.csv"], "no such file"),
        (["evaluate", "fit", "tpp:clicks", "--json", "clicks.csv/x"], "cannot be written"),
        (["predict", "fit", "tpp:clicks", "--out", "clicks.csv/x"], "cannot be written"),
        (["simulate", "fit", "--count", "0", "--end", "5"], "--count"),
        (["simulate", "fit", "--count", "1", "--end", "-5"], "--end is -5.0"),
        (["plot", "fit", "tpp:clicks", "--out", "clicks.csv/x"], "cannot be written"),
        (["conflict", "tpp:clicks", "thpp"], "Did you mean 'thp'?"),
        (["conflict", "tpp:clicks", "thp", "--out", "clicks.csv/x"], "cannot be written"),
        (["fitt"], "Did you mean 'fit'?"),
    ],
)
def test_mistakes_give_one_line(call, fitted, arguments, expected):
    checkpoint.save(build("lnm", 3), "plain.safetensors")
    before = {path for path in Path().rglob("*") if "x" not in path.parts}
    assert expected.lower() in mistake(call("tpp", *arguments)).lower()
    assert {path for path in Path().rglob("*") if "x" not in path.parts} == before


@pytest.mark.parametrize("damage", ["cut", "garbled", "empty"])
def test_a_damaged_checkpoint(call, clicks, fitted, damage):
    path = fitted / "model.safetensors"
    content = path.read_bytes()
    changed = {"cut": content[:-500], "garbled": b"\xff" * 8 + content[8:], "empty": b""}
    path.write_bytes(changed[damage])
    for arguments in (
        ["evaluate", fitted, clicks],
        ["predict", path, clicks],
        ["simulate", path, "--count", 1, "--end", 1],
    ):
        assert "damaged" in mistake(call("tpp", *arguments))


def test_help_lists_verbs_and_models(call):
    code, out, _ = call("tpp", "--help")
    assert code == 0
    for verb in ("fit", "evaluate", "predict", "simulate", "plot", "anomalies", "conflict"):
        assert verb in out
    assert "sahp++" in "".join(call("tpp", "fit", "--help")[1].split())
