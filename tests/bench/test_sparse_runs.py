"""Sparse runs: what is trained, the same numbers whether unbroken or resumed, and a mask that is chosen once."""

from __future__ import annotations

import json

import pytest
import torch

from accord import record
from accord.bench import store
from accord.bench.config import configure, read, vary
from accord.bench.run import run
from accord.bench.training import Training
from accord.errors import AccordError
from accord.sparse.store import load, save
from stored import Stopped, broken_then_resumed, stop_after, tiny, without_times

SPARSE = "PSN(density=0.5)"


def looks(found: store.Run) -> tuple:
    seen = found.looks()
    assert seen is not None
    return seen.blocks, seen.index.tobytes(), seen.gramians.tobytes()


@pytest.mark.parametrize("rule", ["PSN()", "FISH()", "Columns()"])
def test_resumed_equals_unbroken_with_every_kind_of_places(rule, tmp_path):
    """Rows, flat places chosen with data, columns; what each rule chooses is none of a run's business."""
    config = tiny(sparse=rule, method="UPGrad()", epochs=2)
    unbroken = run(config, tmp_path / "unbroken")
    resumed = broken_then_resumed(config, tmp_path / "broken")
    whole, again = without_times(unbroken), without_times(resumed)
    for result in (whole[0], again[0]):
        del result["sparse"]["seconds"]
    assert whole == again
    assert looks(resumed) == looks(unbroken)


@pytest.mark.parametrize(
    "settings",
    [
        {"sparse_order": "combine-then-mask"},
        {"sparse_trains": "all"},
        {"sparse_look": 3, "method": "Sum()"},
        {"sparse_look": 0, "optimizer": "AdamW", "anchor": 0.5},
        {"tasks": ("left",), "method": "Sum()"},
    ],
    ids=str,
)
def test_resumed_equals_unbroken_with_every_setting(settings, tmp_path):
    config = tiny(**{"sparse": SPARSE, "method": "UPGrad()", "epochs": 2} | settings)
    unbroken = run(config, tmp_path / "unbroken")
    resumed = broken_then_resumed(config, tmp_path / "broken")
    for found in (unbroken, resumed):
        del found.result["sparse"]["seconds"]
    assert without_times(resumed) == without_times(unbroken)
    assert (unbroken.looks() is None) == (config.looks == 0)


def test_the_mask_is_chosen_once(tmp_path, monkeypatch):
    """Whoever resumes trains the weights that were chosen, even if the rule would choose others today."""
    config = tiny(sparse=SPARSE)
    with pytest.raises(Stopped):
        run(config, tmp_path, stop_after(1))
    before = (tmp_path / config.place / store.MASK).read_bytes()
    monkeypatch.setattr("accord.sparse.training.select", lambda *_, **__: pytest.fail("it was chosen anew"))
    finished = run(config, tmp_path)
    assert (tmp_path / config.place / store.MASK).read_bytes() == before
    assert finished.result["sparse"]["hash"] == load(tmp_path / config.place / store.MASK).hash


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"sparse": "PSN(density=0.25)"}, "another mask"), ({"seed": 5}, "began with other weights")],
)
def test_the_mask_of_another_run_is_refused(changes, expected, tmp_path):
    config = tiny(sparse=SPARSE)
    with pytest.raises(Stopped):
        run(config, tmp_path, stop_after(1))
    other = Training(vary(config, **changes), tmp_path / "unused")
    save(other.prepared.sparse.mask, tmp_path / config.place / store.MASK)
    with pytest.raises(AccordError, match=expected):
        run(config, tmp_path)


def test_a_damaged_mask_is_one_line(tmp_path):
    config = tiny(sparse=SPARSE)
    with pytest.raises(Stopped):
        run(config, tmp_path, stop_after(1))
    path = tmp_path / config.place / store.MASK
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AccordError, match=r"mask\.safetensors is no mask, or damaged") as error:
        run(config, tmp_path)
    assert "\n" not in str(error.value)


def test_only_the_selected_weights_move(tmp_path):
    training = Training(tiny(sparse=SPARSE, optimizer="AdamW"), tmp_path / "steps")
    start = {name: p.detach().clone() for name, p in dense(training).items()}
    training.epoch()
    mask, moved = training.prepared.sparse.mask, 0
    for name, p in dense(training).items():
        changed = (p != start[name]).reshape(-1)
        if name in mask.selections:
            places = mask.selections[name].places(p.shape)
            free = torch.zeros_like(changed)
            free[places] = True
            assert not changed[~free].any(), name
            moved += int(changed.sum())
        else:
            assert changed.any() != (name in mask.frozen), name
    assert moved > 100


def dense(training: Training) -> dict[str, torch.Tensor]:
    """The weights that the forward pass uses, by the names that they had before."""
    sites = training.prepared.sparse.sites
    for site in sites.values():
        site.placed.write(site.dense)
    found = {name: site.dense for name, site in sites.items()}
    return found | {name: p for name, p in training.model.named_parameters() if "parametrizations" not in name}


def test_what_is_trained_is_in_the_result(tmp_path):
    found = run(tiny(sparse=SPARSE, epochs=1), tmp_path)
    numbers = found.result["sparse"]
    mask = load(found.path / store.MASK)
    assert {name: numbers[name] for name in ("trainable", "total", "shared", "selected", "hash")} == {
        name: getattr(mask, name) for name in ("trainable", "total", "shared", "selected", "hash")
    }
    assert numbers["density"] == numbers["selected"] / numbers["shared"] < 0.6
    assert numbers["seconds"] > 0
    assert (found.result["parameters"], found.result["shared_parameters"]) == (mask.trainable, mask.selected)
    plain = run(tiny(epochs=1), tmp_path)
    assert plain.result["sparse"] is None
    assert (plain.result["parameters"], plain.result["shared_parameters"]) == (mask.total, mask.shared)


def test_watching_a_mask_changes_nothing(tmp_path):
    """Dense training whose selected and other weights are looked at is dense training, bit for bit."""
    plain = run(tiny(method="Sum()"), tmp_path)
    watched = run(tiny(method="Sum()", sparse=SPARSE, sparse_trains="all"), tmp_path)
    assert watched.history[-1]["test"] == plain.history[-1]["test"]
    assert (watched.result["parameters"], watched.result["shared_parameters"]) == (
        plain.result["parameters"],
        plain.result["shared_parameters"],
    )
    full = watched.looks()
    assert full.blocks == ("trained", "frozen")
    # the two blocks add up to the whole, of which the record has the blocks of the modules
    assert full.gramian == pytest.approx(plain.record().gramian, rel=1e-4, abs=1e-7)


def test_blocks_have_the_names_of_a_dense_run(tmp_path):
    sparse, plain = run(tiny(sparse=SPARSE), tmp_path), run(tiny(), tmp_path)
    assert sparse.record().blocks == plain.record().blocks


def test_looks_of_a_run_that_never_finished_an_epoch_are_dropped(tmp_path):
    config = tiny(sparse=SPARSE)
    with pytest.raises(Stopped):
        run(config, tmp_path, stop_after(0))
    folder = tmp_path / config.place
    training = Training(config, folder / store.STEPS, None)
    training.step(next(iter(training.data.train)))
    training.close()
    assert record.parts(folder / store.FULL)
    found = run(config, tmp_path)
    assert len(set(found.looks().index)) == len(found.looks().index)


def test_a_task_alone_may_be_sparse(tmp_path):
    found = run(tiny(sparse=SPARSE, tasks=("left",), monitor_every=0), tmp_path)
    assert found.label == f"single-left + {SPARSE}"
    assert list(found.result["test"]) == ["left"]


def test_an_anchor_holds_the_shared_parameters_only(tmp_path):
    """With a very strong pull they stay; the heads learn."""
    training = Training(tiny(anchor=1e9), tmp_path / "steps")
    start = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    training.epoch()
    heads = training.prepared._heads()
    for name, p in training.model.named_parameters():
        head = any(name == one or name.startswith(f"{one}.") for one in heads)
        assert torch.allclose(p, start[name], atol=1e-6) != head, name


def test_names_of_folders_differ():
    settings = [
        {}, {"sparse": SPARSE}, {"sparse": "PSN(k=3)"}, {"sparse": SPARSE, "sparse_order": "combine-then-mask"},
        {"sparse": SPARSE, "sparse_trains": "all"}, {"split": ("a",)}, {"split": ("a", "b")}, {"anchor": 0.1},
        {"anchor": 0.2}, {"anchor": 0.1, "sparse": SPARSE}, {"split": tuple(f"encoder.{i}" for i in range(60))},
        {"split": tuple(f"encoder.{i}" for i in range(61))}, {"split": ("../x",)},
    ]  # fmt: skip
    places = [tiny(**given).place for given in settings]
    assert len(set(places)) == len(places)
    assert all(len(place.parts) == 3 and max(map(len, place.parts)) < 200 for place in places)


def test_configurations_of_earlier_versions_are_read(tmp_path):
    config = tiny(method="UPGrad()")
    values = config.model_dump(mode="json")
    for name in ("sparse", "sparse_order", "sparse_trains", "sparse_look", "split", "anchor"):
        del values[name]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read(tmp_path / "config.json") == config
    assert config.label == "UPGrad()"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sparse": "PNS"}, "rule 'PNS' is unknown. Did you mean 'PSN'?"),
        ({"sparse": "PSN(k=0)"}, "k"),
        ({"sparse_look": 3}, "sparse_look is 3 without a rule; give sparse as well."),
        ({"sparse_order": "combine-then-mask"}, "sparse_order is 'combine-then-mask' without a rule"),
        ({"sparse": "PSN", "sparse_trains": "all", "sparse_order": "combine-then-mask"}, "no sparse_order"),
        ({"split": ()}, "split is"),
        ({"split": ("a", "a")}, "split is ['a', 'a']; expected at least one, each once."),
        ({"split": ("a",), "tasks": ("left",)}, "split is ['a'] with one task"),
        ({"anchor": 0.0}, "anchor is 0.0: input should be greater than 0"),
    ],
)
def test_mistakes_are_one_line(settings, expected):
    with pytest.raises(AccordError) as error:
        configure(problem="digits", **settings)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_that_is_refused_leaves_no_file(tmp_path):
    config = configure(problem="digits(train=64, validation=32, test=32, epochs=1)", sparse="PSN(k=1000000)")
    with pytest.raises(AccordError, match="above every fan-in"):
        run(config, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
