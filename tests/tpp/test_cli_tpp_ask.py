"""What ``accord tpp`` tells about a model: figures, predictions, simulations, pictures, anomalies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import DATES, FROM_FILE, mistake, table

from accord.cli.reading import Reading
from accord.cli.tpp.chosen import choose
from accord.cli.tpp.source import training
from accord.tpp import store
from accord.tpp.evaluate import evaluate
from accord.tpp.predict import predict


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


def csv_rows(path: Path) -> set[tuple[str, float, str]]:
    return {(user, float(at), page) for user, at, page in (line.split(",") for line in path.read_text().split()[1:])}


def test_events_are_found_again_in_the_file(call, clicks, fitted, tmp_path):
    """By the user's own ids, to the last digit: nothing went through a change of units."""
    rows = csv_rows(tmp_path / "clicks.csv")
    for verb, out in (("predict", "p.csv"), ("anomalies", "a.csv")):
        for data in ([clicks], ["clicks.csv", *FROM_FILE, "--option", "unit=second"]):
            assert call("tpp", verb, fitted, *data, "--out", out)[0] == 0
            found = pl.read_csv(out)
            assert set(zip(found["sequence"], found["time"], found["mark"], strict=True)) <= rows
    shown = call("tpp", "anomalies", fitted, clicks, "--out", "a.csv")[1]
    assert all(f" {name} " in shown for name in pl.read_csv("a.csv")["sequence"][:10])


def test_a_file_is_the_same_from_another_folder(call, tmp_path, monkeypatch):
    table(tmp_path / "clicks.csv", 0)
    assert call("tpp", "fit", "clicks.csv", "lnm", "--out", "fit", "--epochs", 1, *FROM_FILE)[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, out, _ = call("tpp", "evaluate", "../fit", "../clicks.csv")
    assert code == 0
    assert "sequences of test" in " ".join(out.split())


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


def test_predictions_after_the_end(call, clicks, fitted, tmp_path):
    assert call("tpp", "predict", fitted, clicks, "--after", "--time", "mean", "--out", "p.csv")[0] == 0
    found = pl.read_csv("p.csv")
    rows = csv_rows(tmp_path / "clicks.csv")
    last = {user: max(at for u, at, _ in rows if u == user) for user, _, _ in rows}
    assert dict(zip(found["sequence"], found["since"], strict=True)).items() <= last.items()
    assert len(found) == len(choose(fitted, clicks, None, Reading()).events)
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
    name = choose(fitted, clicks, None, Reading()).ids[2]
    code, out, _ = call("tpp", "plot", fitted, clicks, "--out", "figures", "--sequence", name)
    assert code == 0
    names = {"intensity", "mark_reliability", "time_reliability", "time_rescaling"}
    assert {path.name for path in Path("figures").iterdir()} == {
        f"{n}.{kind}" for n in names for kind in ("png", "pdf")
    }
    assert all(path.stat().st_size > 4000 for path in Path("figures").iterdir())
    for name in names:
        assert f"figures/{name}.png and .pdf: " in out
    assert "test holds no sequence '99'; it has u" in mistake(call("tpp", "plot", fitted, clicks, "--sequence", 99))


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
