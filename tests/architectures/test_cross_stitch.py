"""Cross-stitch networks against their formula, and with identity units against separate networks."""

from __future__ import annotations

import pytest
import torch

from accord.architectures import GRU, MLP, Bottleneck, Conv, CrossStitch, Form, HardSharing, vector

HEADS = {"a": vector(2), "b": vector(1), "c": vector(3)}
CASES = [
    (MLP(width=4, layers=3), Form("vector", 5)),
    (Conv(channels=2, layers=3), Form("map", 3, (12, 16))),
    (Bottleneck(width=3, layers=2), Form("map", 3, (12, 16))),
    (GRU(width=4, embedding=3), Form("tokens", 9, (6,))),
]


def built(spec, case):
    torch.manual_seed(0)
    model = spec.build(*case, HEADS).double()
    kind, width, size = case[1].kind, case[1].width, case[1].size
    if kind == "tokens":
        return model, torch.randint(1, width, (4, *size)), torch.arange(6) < torch.tensor([[6], [3], [5], [1]])
    shape = (4, width, *size)
    return model, torch.randn(shape, dtype=torch.float64), None


def set_units(model, value):
    """``value(s, t)`` in every unit."""
    with torch.no_grad():
        for unit in model.units:
            for s, row in enumerate(unit.rows):
                for t in range(len(row)):
                    row[t] = value(s, t)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].name)
@pytest.mark.parametrize("channels", [True, False])
def test_with_identity_units_the_networks_are_separate(case, channels):
    model, x, valid = built(CrossStitch(channels=channels), case)
    set_units(model, lambda s, t: float(s == t))
    for task, y in model(x, valid).items():
        alone = HardSharing().build(*case, {task: HEADS[task]}).double()
        alone.encoder.load_state_dict(model.encoders[task].state_dict())
        alone.heads[task].load_state_dict(model.heads[task].state_dict())
        torch.testing.assert_close(y, alone(x, valid)[task])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].name)
@pytest.mark.parametrize("channels", [True, False])
def test_units_mix_as_the_formula_says(case, channels):
    model, x, valid = built(CrossStitch(channels=channels), case)
    with torch.no_grad():
        for p in model.units.parameters():
            p.normal_()
    tasks, features = list(HEADS), [x] * 3
    for index, unit in enumerate(model.units):
        own = [model.encoders[task].stage(index, y, valid) for task, y in zip(tasks, features, strict=True)]
        axis = 1 if own[0].ndim == 4 else -1
        features = []
        for s in range(3):
            mixed = torch.zeros_like(own[s])
            for t in range(3):
                for d in range(own[t].shape[axis]):
                    factor = unit.rows[s][t, d if channels else 0]
                    mixed.select(axis, d).add_(factor * own[t].select(axis, d))
            features.append(mixed)
    for task, y, expected in zip(tasks, model(x, valid).values(), features, strict=True):
        torch.testing.assert_close(y, model.heads[task](expected, valid))


def test_units_start_near_the_identity():
    for spec, width in ((CrossStitch(same=0.8), 4), (CrossStitch(same=0.8, channels=False), 1)):
        model, *_ = built(spec, CASES[0])
        for unit in model.units:
            rows = torch.stack(list(unit.rows))  # (K, K, D)
            assert rows.shape == (3, 3, width)
            expected = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
            torch.testing.assert_close(rows, expected[..., None].expand_as(rows), atol=1e-7, rtol=0)
