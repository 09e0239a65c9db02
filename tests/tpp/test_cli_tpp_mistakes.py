"""Mistakes of ``accord tpp`` give one line, whatever they are; and its help."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import mistake

from accord.tpp import checkpoint
from accord.tpp.build import build


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
