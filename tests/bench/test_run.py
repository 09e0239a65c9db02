"""One run: the same numbers whether unbroken, resumed, or beside others; nothing done twice; nothing half-written."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from accord.bench import checkpoint, store
from accord.bench.config import configure
from accord.bench.run import best_epoch, run
from accord.bench.training import Training
from accord.errors import AccordError
from accord.methods import METHODS
from accord.problems import Data, Digits, Examples, Problem, seeds
from stored import Stopped, broken_then_resumed, stop_after, tiny, without_times

REQUIRED = {  # methods that have no default
    "Constant": "Constant(weights=[1, 2, 3])",
    "PBI": "PBI(weights=[1, 2, 3])",
    "COSMOS": "COSMOS(ratio=[1, 2, 3])",
}
SPELLINGS = [REQUIRED.get(method.__name__, f"{method.__name__}()") for method in METHODS]


@pytest.mark.parametrize("method", SPELLINGS)
def test_resumed_equals_unbroken(method, tmp_path):
    config = tiny(method=method)
    unbroken = run(config, tmp_path / "unbroken")
    torch.rand(3)
    assert without_times(broken_then_resumed(config, tmp_path / "broken")) == without_times(unbroken)


@dataclass(frozen=True, repr=False)
class Noisy(Problem):
    """Dropout and BatchNorm: random numbers and buffers in the forward pass."""

    epochs: int = 3
    batch: int = 16
    lr: float = 0.01
    name = "noisy"
    tasks = ("a", "b")
    metric = dict.fromkeys(("a", "b"), ("loss", False))

    @classmethod
    def tiny(cls):
        return cls()

    def data(self, seed):
        x = torch.randn(48, 4, generator=seeds.generator(seed, "noisy"))
        part = Examples({"x": x, "a": x[:, 0], "b": x[:, 1] - x[:, 2]}, self.batch)
        return Data(part, part, part)

    def model(self, seed):
        with seeds.seeded(seed, "noisy", "model"):
            return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))

    def losses(self, model, batch):
        out = model(batch["x"])
        return {task: (out[:, i] - batch[task]).square().mean() for i, task in enumerate(self.tasks)}

    def metrics(self, model, batches):
        found = [self.losses(model, batch) for batch in batches]
        return {task: {"loss": float(sum(losses[task] for losses in found)) / len(found)} for task in self.tasks}


@pytest.fixture
def noisy(monkeypatch):
    monkeypatch.setattr("accord.problems.PROBLEMS", (Digits, Noisy))


@pytest.mark.parametrize("method", ["Sum()", "UPGrad()", "FAMO()", "GradDrop()"])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.usefixtures("noisy")
def test_resumed_equals_unbroken_with_dropout_and_batch_norm(method, optimizer, tmp_path):
    config = configure(problem="noisy", method=method, optimizer=optimizer, monitor_every=1)
    unbroken = run(config, tmp_path / "unbroken")
    for epoch in (0, 1, 2):
        resumed = broken_then_resumed(config, tmp_path / f"broken-{epoch}", epoch)
        assert without_times(resumed) == without_times(unbroken)


@pytest.mark.usefixtures("noisy")
def test_methods_that_learn_after_the_step_get_its_losses(tmp_path, monkeypatch):
    """And the look leaves no trace: with learning rate 0 the parameters stand still, so the losses must be the same."""
    training = Training(configure(problem="noisy", method="FAMO()", optimizer="SGD", lr=1e-30), tmp_path)
    told = []
    monkeypatch.setattr(training.balancer.method, "after_step", lambda losses, context: told.append(losses))
    training.model.train()
    for batch in training.data.train:
        before = training.step(batch)
        assert told[-1].tolist() == [float(loss) for loss in before.values()]
    assert len(told) == 3


@pytest.mark.parametrize("method", ["MoDo()", "AutoLambda()"])
def test_methods_get_the_batches_that_they_ask_for(method, tmp_path, monkeypatch):
    training = Training(tiny(method=method), tmp_path)
    seen = []
    own = training.problem.losses
    monkeypatch.setattr(
        type(training.problem), "losses", lambda self, model, batch: (seen.append(batch), own(model, batch))[1]
    )
    training.epoch()
    assert len({id(batch) for batch in seen}) >= 2 * len(training.data.train)


def test_global_state_is_as_before(tmp_path):
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    run(tiny(epochs=1), tmp_path)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_all_methods_see_the_same_batches(tmp_path, monkeypatch):
    seen: dict[str, list[int]] = {}
    step = Training.step

    def watched(self, batch, beside):
        seen.setdefault(self.config.label, []).append(int(batch["image"].double().mul(1e6).sum()))
        return step(self, batch, beside)

    monkeypatch.setattr(Training, "step", watched)
    run(tiny(), tmp_path)
    run(tiny(method="NashMTL()"), tmp_path)
    run(tiny(tasks=("left",)), tmp_path)
    first, *others = seen.values()
    assert len(set(first)) == len(first), "every epoch has its own order"
    assert all(other == first for other in others)


def test_a_finished_run_is_skipped(tmp_path, monkeypatch):
    first = run(tiny(), tmp_path)
    monkeypatch.setattr("accord.bench.run.Training", None)  # nothing may be trained
    calls: list[int] = []
    assert run(tiny(), tmp_path, calls.append) == first
    assert calls == [3]


def test_what_a_finished_run_holds(tmp_path):
    done = run(tiny(method="UPGrad()"), tmp_path)
    names = sorted(path.name for path in done.path.iterdir())
    assert names == ["config.json", "history.json", "result.json", "steps"]
    assert done.path == tmp_path / tiny().problem / "UPGrad()" / "seed-0"
    result, last = done.result, done.history[-1]
    assert [epoch["epoch"] for epoch in done.history] == [1, 2, 3]
    assert result["epochs"] == result["selected_epoch"] == 3
    assert result["steps"] == 12
    assert result["test"]["sum"]["value"] == last["test"]["sum"]["accuracy"]
    assert result["test"]["sum"]["loss"] == last["test"]["sum"]["loss"]
    assert set(last["train_loss"]) == {"left", "right", "sum"}
    model = Digits.tiny().model(0)
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    assert result["shared_parameters"] == sum(p.numel() for p in model.trunk.parameters())
    record = done.record()
    assert record.index.tolist() == [0, 2, 4, 6, 8, 10]
    assert record.tasks == ("left", "right", "sum")


def test_a_task_alone(tmp_path):
    done = run(tiny(tasks=("right",), monitor_every=0), tmp_path)
    assert done.label == "single-right"
    assert set(done.result["test"]) == {"right"}
    assert done.record() is None
    assert done.result["shared_parameters"] == 0
    model = Digits.tiny().model(0)
    own = sum(p.numel() for part in (model.trunk, model.heads["right"]) for p in part.parameters())
    assert done.result["parameters"] == own


def test_validation_selects_and_test_has_no_say(tmp_path):
    def history(validation, test):
        return [
            {
                name: {"left": {"accuracy": v}, "right": {"accuracy": 0.5}}
                for name, v in (("validation", a), ("test", b))
            }
            for a, b in zip(validation, test, strict=True)
        ]

    assert best_epoch(Digits(), history([0.2, 0.6, 0.5], [0.9, 0.1, 0.8])) == 2
    assert best_epoch(Digits(), history([0.6, 0.6, 0.6], [0.1, 0.9, 0.9])) == 1
    assert best_epoch(Digits(), history([0.6, 0.0], [0.1, 0.9])) == 1, "a last value of 0 gives no scale"
    config = tiny(select="validation", epochs=4)
    done = run(config, tmp_path)
    chosen = done.history[done.result["selected_epoch"] - 1]
    assert done.result["selected_epoch"] == done.result["best_epoch"] == best_epoch(Digits(), done.history)
    assert done.result["test"]["left"]["value"] == chosen["test"]["left"]["accuracy"]


def test_a_folder_of_another_run_is_refused(tmp_path):
    run(tiny(epochs=1), tmp_path)
    with pytest.raises(
        AccordError, match=r"holds a run with lr=0\.003, and this one has lr=0\.5; choose another folder"
    ):
        run(tiny(epochs=1, lr=0.5), tmp_path)


def test_two_processes_do_not_write_one_folder(tmp_path):
    config = tiny()

    def on_epoch(done):
        with pytest.raises(AccordError, match=f"being written by another process .number {os.getpid()}"):
            run(config, tmp_path)

    run(config, tmp_path, on_epoch)


def test_what_a_killed_process_left_does_not_matter(tmp_path):
    config = tiny(epochs=1)
    folder = tmp_path / config.place
    folder.mkdir(parents=True)
    (folder / "lock").write_text("1\n")
    (folder / ".config.json.1.tmp").write_text("{")
    assert run(config, tmp_path).finished
    assert not [path for path in folder.iterdir() if path.name == "lock" or path.suffix == ".tmp"]


@pytest.fixture
def stopped(tmp_path):
    """The folder of a run with one epoch behind it."""
    with pytest.raises(Stopped):
        run(tiny(), tmp_path, stop_after(1))
    return tmp_path / tiny().place


def test_a_damaged_checkpoint(stopped, tmp_path):
    path = stopped / store.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(AccordError, match=r"checkpoint\.safetensors is damaged: .* Remove it"):
        run(tiny(), tmp_path)
    path.unlink()  # as told
    assert run(tiny(), tmp_path).finished


def test_a_checkpoint_of_something_else(stopped, tmp_path):
    path = stopped / store.CHECKPOINT
    state = checkpoint.load(path)
    for wrong in ({**state, "model": {}}, {k: v for k, v in state.items() if k != "optimizer"}, {"a": 1}):
        checkpoint.save(path, wrong)
        with pytest.raises(AccordError, match="is damaged"):
            run(tiny(), tmp_path)


@pytest.mark.parametrize("name", ["config.json", "history.json"])
@pytest.mark.parametrize("content", ["", "{", "3"])
def test_damaged_json(stopped, tmp_path, name, content):
    (stopped / name).write_text(content)
    for use in (lambda: run(tiny(), tmp_path), lambda: store.load_runs(tmp_path)):
        with pytest.raises(AccordError, match=rf"{name.replace('.', '[.]')} is damaged: .*Remove the folder") as error:
            use()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"status": "finished", "epochs": "many"}'])
def test_a_damaged_result(tmp_path, content):
    done = run(tiny(epochs=1), tmp_path)
    (done.path / "result.json").write_text(content)
    with pytest.raises(AccordError, match=r"result\.json is damaged: .*Remove the folder"):
        store.load_runs(tmp_path)


def test_a_damaged_record_is_named(tmp_path):
    done = run(tiny(epochs=1), tmp_path)
    part = next((done.path / "steps").glob("*.parquet"))
    part.write_bytes(b"PAR1")
    with pytest.raises(AccordError, match=part.name):
        store.load_runs(tmp_path)[0].record()


def test_runs_are_found_at_any_depth_and_once(tmp_path):
    first = run(tiny(epochs=1), tmp_path / "a")
    second = run(tiny(epochs=1, seed=1), tmp_path / "a")
    assert [r.path for r in store.load_runs(tmp_path)] == [first.path, second.path]
    assert [r.path for r in store.load_runs([second.path, tmp_path])] == [second.path, first.path]
    with pytest.raises(AccordError, match="holds no run"):
        store.load_runs(first.path / "steps")
    with pytest.raises(AccordError, match="does not exist"):
        store.load_runs(tmp_path / "b")


def test_an_unfinished_run_can_be_read(stopped):
    found = store.load(stopped)
    assert not found.finished
    assert [epoch["epoch"] for epoch in found.history] == [1]
    assert found.record().index.max() < 4


def test_a_kill_between_checkpoint_and_history_loses_nothing(tmp_path):
    config = tiny()
    unbroken = run(config, tmp_path / "unbroken")
    broken = tmp_path / "broken"
    with pytest.raises(Stopped):
        run(config, broken, stop_after(3))  # all epochs done, no result yet
    (broken / config.place / store.HISTORY).write_text("[]")
    assert without_times(run(config, broken)) == without_times(unbroken)


def test_ctrl_c_leaves_whole_files(tmp_path):
    def on_epoch(done):
        if done == 1:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tiny(), tmp_path, on_epoch)
    finally:
        signal.signal(signal.SIGINT, before)
    folder = tmp_path / tiny().place
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "history.json",
        "steps",
    ]
    assert len(json.loads((folder / "history.json").read_text())) == 1


def test_an_epoch_that_diverged_is_never_the_best():
    def line(left: float, right: float) -> dict:
        return {"validation": {"left": {"accuracy": left}, "right": {"accuracy": right}}}

    nan = float("nan")
    assert best_epoch(Digits(), [line(0.4, 0.4), line(0.9, nan), line(0.5, 0.5)]) == 3
    assert best_epoch(Digits(), [line(nan, nan), line(0.5, 0.5), line(nan, nan)]) == 2
