"""``accord tpp fit`` as a user meets it: progress, options, resume, files."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import torch
from commands import FROM_FILE, mistake, table

from accord.cli.reading import Reading
from accord.cli.tpp.source import training
from accord.tpp import checkpoint
from stored import start, wait_for


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


def test_a_method_that_lost_its_memory_says_so(call, clicks):
    arguments = ["tpp", "fit", clicks, "thp", "--method", "GradNorm()", "--out", "a"]
    assert "remembers" not in call(*arguments, "--epochs", 1)[1]
    assert "remembers" not in call(*arguments, "--epochs", 2)[1]
    Path("a/method.safetensors").unlink()
    assert "remembers 0 of 2 epochs" in call(*arguments, "--epochs", 3)[1]


def test_ctrl_c_and_the_same_command_again(call, clicks, tmp_path):
    arguments = ["tpp", "fit", clicks, "thp+", "--patience", 5000, "--batch", 4]
    process = start(*arguments, "--epochs", 5000, "--out", tmp_path / "a")
    saved = tmp_path / "a" / "training.safetensors"

    def epochs() -> int:
        return len(checkpoint.read(saved)[1]["rest"]["history"]) if saved.exists() else 0

    wait_for(lambda: epochs() > 1, process, "the second epoch")  # by then the first one has been told
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


def test_a_simulated_problem_needs_no_data(call):
    problem = "tpp-hawkes(train=12, validation=6, test=6)"
    assert call("tpp", "fit", problem, "hawkes", "--out", "fit", "--epochs", 1)[0] == 0
    code, out, _ = call("tpp", "evaluate", "fit", problem)
    assert code == 0
    assert "event 1 is scored; the wait to the end of the window counts in 100%" in out
