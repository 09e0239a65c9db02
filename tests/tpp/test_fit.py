"""Training: what is minimised, early stopping by task, resume, checkpoints, compatibility."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from accord.tpp.batch import batches, collate
from accord.tpp.build import build
from accord.tpp.checkpoint import KEY, load, read, save, write
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Splits, split
from accord.tpp.fit import STATE, fit
from accord.tpp.stopping import Stopping
from accord.tpp.training import nll


def sequences(count: int = 24, seed: int = 0, end: float | None = None) -> Events:
    """Marks that alternate, gaps that depend on the mark: something can be learned."""
    rng = np.random.default_rng(seed)
    marks = [(np.arange(n) + rng.integers(2)) % 2 for n in rng.integers(2, 9, count)]
    times = [np.cumsum(rng.exponential(np.where(m == 0, 0.2, 2.0))) for m in marks]
    about = {} if end is None else {"end": np.array([t[-1] + end for t in times])}
    return Events.of(times, marks, start=0.0, names="ab", **about)


@pytest.fixture
def parts() -> Splits:
    return split(sequences())


def seeded(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(name, 2).double()


def test_losses_are_divided_by_scored_events():
    model, events = seeded("lnm"), sequences(5, end=1.0)
    batch = collate(events, None, torch.float64)
    with torch.no_grad():
        found = model(batch)
    assert batch.windowed
    assert float(found.window.sum()) > 0
    sums, means = found.losses("sum"), found.losses()
    assert float(sums["time"]) == pytest.approx(float(found.window.sum() - found.time.sum()))
    assert {k: float(v) for k, v in sums.items()} == pytest.approx(
        {k: float(v) * batch.count for k, v in means.items()}
    )


def test_validation_is_per_sequence_whatever_the_batches():
    model, events = seeded("thp"), sequences(13, end=0.5)
    whole, cut = nll(model, events, batch=256), nll(model, events, batch=2)
    assert whole == pytest.approx(cut, rel=1e-12)
    with torch.no_grad():
        losses = model(collate(events, None, torch.float64)).losses("sum")
    assert whole == pytest.approx({task: float(loss) / 13 for task, loss in losses.items()}, rel=1e-12)


def test_training_helps(parts):
    model = seeded("lnm")
    before = nll(model, parts.validation)
    fitted = fit(model, parts, epochs=40, batch=4)
    after = nll(model, parts.validation)
    assert after["time"] + after["mark"] < before["time"] + before["mark"] - 1
    assert fitted.history[fitted.best["joint"] - 1]["validation"]["joint"] == pytest.approx(sum(after.values()))


def test_the_best_epoch_of_each_task_can_be_restored(parts):
    model = seeded("thp")
    fitted = fit(model, parts, epochs=8, batch=4)
    for task in ("time", "mark"):
        fitted.restore(task)
        expected = fitted.history[fitted.best[task] - 1]["validation"][task]
        assert nll(model, parts.validation)[task] == pytest.approx(expected)
    with pytest.raises(TPPError, match="kind='both'"):
        fitted.restore("both")
    with pytest.raises(TPPError, match="without shared parameters"):
        fitted.restore("tasks")


def test_separate_stopping_can_be_had_from_a_joint_training(parts):
    """Until a task rests nothing differs, so the parts of the two best epochs are those of separate stopping."""
    separate, joint = seeded("lnm++"), seeded("lnm++")
    fit(separate, parts, epochs=6, batch=4)
    fit(joint, parts, epochs=6, batch=4, stopping="joint").restore("tasks")
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(separate.parameters(), joint.parameters(), strict=True))


@pytest.mark.parametrize("name", ["thp++", "lnm++", "fnn-dd"])
def test_joint_and_separate_training_of_disjoint_models_coincide(name, parts):
    """Adam acts on each coordinate by itself: until a task rests, one optimiser or two make no difference."""
    histories = []
    for stopping in ("joint", "tasks"):
        model = seeded(name)
        histories.append(fit(model, parts, epochs=4, batch=4, stopping=stopping).history)
    for one, other in zip(*histories, strict=True):
        assert one["train"] == pytest.approx(other["train"], rel=1e-9)
        assert one["validation"] == pytest.approx(other["validation"], rel=1e-9)


def test_a_task_rests_after_its_patience_and_the_other_goes_on(parts, monkeypatch):
    model, seen = seeded("lnm++"), []
    time = {name: p for name, p in model.named_parameters() if model.task_of()[name] == "time"}

    def watch(line):
        seen.append({name: p.detach().clone() for name, p in time.items()})

    # a time loss that never gets better after the first epoch, a mark loss that always does
    losses = iter(range(100, 0, -1))
    monkeypatch.setattr("accord.tpp.training.nll", lambda *_, **__: {"time": 1.0, "mark": float(next(losses))})
    fitted = fit(model, parts, epochs=6, batch=4, patience=2, on_epoch=watch)
    assert len(fitted.history) == 6
    assert "time" in fitted.history[2]["train"]
    assert "time" not in fitted.history[3]["train"], "patience 2: epochs 2 and 3 were not better"
    assert all(torch.equal(seen[2][n], seen[5][n]) for n in time), "its parameters rest"
    assert all(torch.equal(p, seen[0][n]) for n, p in time.items()), "the best time part is the one of epoch 1"
    assert fitted.best == {"joint": 6, "time": 1, "mark": 6}
    fitted.restore("joint")  # the control: the same training, stopped by the sum
    assert all(torch.equal(p, seen[5][n]) for n, p in time.items())


def test_stopping_rule_is_relative():
    rule = Stopping(patience=3, drop=5e-4)
    assert [rule.better(x) for x in (1000.0, 999.6, 999.4, 1.0, 0.9996, 0.9994)] == [
        True,
        False,
        True,
        True,
        False,
        True,
    ]
    assert not rule.over
    assert [rule.better(x) for x in (2.0, 2.0, 2.0)] == [False] * 3
    assert rule.over
    negative = Stopping(patience=1)
    assert [negative.better(x) for x in (-1000.0, -1000.4, -1000.6)] == [True, False, True]


def test_an_unbroken_training_and_a_resumed_one_agree(parts, tmp_path):
    whole = seeded("thp++")
    expected = fit(whole, parts, epochs=6, batch=4).history
    fit(seeded("thp++"), parts, epochs=3, batch=4, path=tmp_path)
    resumed = seeded("thp++")
    found = fit(resumed, parts, epochs=6, batch=4, path=tmp_path).history
    assert [line["validation"] for line in found] == [line["validation"] for line in expected]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_state_of_another_training_is_refused(parts, tmp_path):
    fit(seeded("lnm"), parts, epochs=1, batch=4, path=tmp_path)
    with pytest.raises(TPPError, match="batch=4; this one has 8"):
        fit(seeded("lnm"), parts, epochs=1, batch=8, path=tmp_path)
    with pytest.raises(TPPError, match="with data="):
        fit(seeded("lnm"), split(sequences(seed=1)), epochs=1, batch=4, path=tmp_path)
    with pytest.raises(TPPError, match="with optimizer="):
        fit(seeded("lnm"), parts, epochs=1, batch=4, path=tmp_path, optimizer=lambda p: torch.optim.Adam(p, 0.1))
    whole = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TPPError, match="damaged"):
        fit(seeded("lnm"), parts, epochs=1, batch=4, path=tmp_path)


def test_a_backward_of_ones_own(parts):
    calls = []

    def halve(losses):
        calls.append(list(losses))
        (0.5 * sum(losses.values())).backward()

    fit(seeded("lnm"), parts, epochs=1, batch=4, backward=halve)
    assert calls == [["time", "mark"]] * len(list(batches(parts.train, 4)))


def test_paper_compat_leaves_out_first_events_and_windows(parts):
    events = sequences(12, end=1.0)
    parts = Splits(events, events, events)
    lines = []
    for compat in ({"paper_compat": True}, {"paper_compat": True, "simulated": True}, {}):
        lines.append(fit(seeded("lnm"), parts, epochs=1, batch=4, **compat).history[0])
    assert [line["events"] for line in lines] == [events.time.size - 12, events.time.size - 12, events.time.size]
    times = [line["validation"]["time"] for line in lines]
    assert times[1] > times[0], "the window belongs to the time task"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch": -1}, "batch=-1"),
        ({"patience": 0}, "patience=0"),
        ({"stopping": "early"}, "stopping='early'"),
        ({"stopping": "tasks"}, "without shared parameters"),
    ],
)
def test_mistakes(arguments, message, parts):
    with pytest.raises(TPPError, match=message):
        fit(seeded("lnm"), parts, **arguments)


def test_unfit_data(parts):
    with pytest.raises(TPPError, match="knows 3 marks"):
        fit(build("lnm", 3), parts)
    single = Events.of([[1.0]] * 3, names="ab")
    with pytest.raises(TPPError, match="validation part has no event"):
        fit(build("lnm", 2), Splits(parts.train, single, parts.test))


def test_a_loss_that_is_no_number_stops_the_training(parts):
    model = seeded("lnm")
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(TPPError, match="loss became nan in epoch 1"):
        fit(model, parts, epochs=1)


def test_a_validation_loss_that_is_no_number_is_never_the_best(parts, tmp_path):
    with pytest.raises(TPPError, match="validation loss became nan in epoch 1"):
        fit(seeded("lnm"), parts, epochs=1, batch=100, path=tmp_path, optimizer=lambda p: torch.optim.SGD(p, 1e200))
    assert not (tmp_path / STATE).exists()


def test_checkpoints_hold_model_and_settings(tmp_path):
    model = seeded("fnn+")
    save(model, tmp_path / "deep" / "m.safetensors", marks=["a", "b"], unit="day")
    again, about = load(tmp_path / "deep" / "m.safetensors")
    assert about == {"marks": ["a", "b"], "unit": "day"}
    batch = collate(sequences(4), None, torch.float64)
    assert torch.equal(model(batch).time, again(batch).time)
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "m.safetensors"], "no file is left behind"


def test_damaged_checkpoints(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(TPPError, match="no checkpoint"):
        load(path)
    save(seeded("lnm"), path)
    whole = path.read_bytes()
    for cut in (0, 7, len(whole) // 3, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(TPPError, match="damaged|no checkpoint"):
            load(path)
    write(path, {"x": torch.ones(1)}, {"settings": seeded("lnm").settings, "about": {}})
    with pytest.raises(TPPError, match="does not fit"):
        load(path)
    write(path, {}, {"settings": {"name": "gone"}, "about": {}})
    with pytest.raises(TPPError, match="does not fit"):
        load(path)


def test_a_checkpoint_is_plain_json_and_tensors(tmp_path):
    save(seeded("lnm"), tmp_path / "m")
    raw = (tmp_path / "m").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"][KEY])["settings"]["name"] == "lnm"
    assert read(tmp_path / "m")[0].keys() == seeded("lnm").state_dict().keys()
