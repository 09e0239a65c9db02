"""``accord tpp conflict``: what is measured, and when there is nothing to measure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.cli.tpp.measuring import Measured
from accord.tpp.batch import collate
from accord.tpp.build import build
from accord.tpp.events import Events


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
