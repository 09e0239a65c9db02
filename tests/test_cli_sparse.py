"""``accord run --sparse``, ``accord sparse``, ``accord split`` and ``accord compare`` of what they wrote."""

from __future__ import annotations

import shutil

import pytest

from accord import cli
from accord.bench import store
from accord.bench.run import run
from accord.sparse.store import load
from stored import TINY, Stopped, stop_after, tiny, without_times

LAYER = "trunk.2"


@pytest.fixture
def calls(capsys):
    """Code and both outputs, on one line where they are wrapped."""

    def call(*arguments) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, " ".join(out.split()), err.rstrip("\n")

    return call


def test_dense_beside_sparse_and_compared(calls, tmp_path):
    code, out, _ = calls("run", TINY, "--sparse", "dense", "--sparse", "PSN(k=4)", "--seeds", 2, "--out", tmp_path,
                         "--epochs", 1, "--sparse-look", 2)  # fmt: skip
    assert code == 0
    assert "Sum() + PSN(k=4)" in out
    code, out, _ = calls("compare", tmp_path, "--a", "Sum", "--b", "Sum + PSN(k=4)")
    assert code == 0
    assert "Sum() + PSN(k=4)" in out
    assert "sparse differs" in out
    found = next(one for one in store.load_runs(tmp_path) if one.config.sparse)
    assert found.looks().index.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sparse", "PNS"], "rule 'PNS' is unknown. Did you mean 'PSN'?"),
        (["--sparse-look", "2"], "--sparse-look is given without a rule; say --sparse RULE as well."),
        (["--split", "trunk.9"], "layers='trunk.9' means no module of the model"),
        (["--anchor", "-1"], "anchor is -1.0: input should be greater than 0."),
    ],
)
def test_mistakes_of_run_are_one_line(arguments, expected, calls, tmp_path):
    code, _, err = calls("run", TINY, *arguments, "--out", tmp_path)
    assert code == 2
    assert expected in err
    assert "\n" not in err


def test_what_a_rule_trains(calls, tmp_path):
    code, out, _ = calls("sparse", TINY, "--rule", "PSN(k=4)", "--rule", "BitFit", "--out", tmp_path)
    assert code == 0
    assert "PSN(k=4) on digits" in out
    assert "trunk.2.weight selected" in out
    assert "trunk.2.weight frozen" in out
    mask = load(tmp_path / "mask-0.safetensors")
    assert f"{mask.trainable:,} {mask.total:,}" in out
    assert calls("sparse", TINY, "--rule", "PSM")[0] == 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One finished run, and one that was stopped after its first epoch."""
    root = tmp_path_factory.mktemp("runs")
    finished = run(tiny(), root / "finished")
    with pytest.raises(Stopped):
        run(tiny(), root / "stopped", stop_after(1))
    return root, finished


def test_the_table_of_layers_alone_writes_nothing(calls, runs):
    root, finished = runs
    before = sorted(root.rglob("*"))
    code, out, _ = calls("split", finished.path, "--tau", "-0.1", "--share", "1")
    assert code == 0
    assert "S-conflicts" in out
    assert all(block in out for block in finished.record().blocks)
    assert sorted(root.rglob("*")) == before


def test_a_finished_run_is_split_from_the_start(calls, runs, tmp_path):
    _, finished = runs
    code, out, _ = calls("split", finished.path, "--layers", LAYER, "--out", tmp_path, "--train")
    assert code == 0
    assert "parameters" in out
    assert "forward FLOPs" in out
    assert "trained from the beginning" in out
    (made,) = store.load_runs(tmp_path)
    assert made.label == f"Sum() + split({LAYER})"
    assert without_times(made) == without_times(run(tiny(split=(LAYER,)), tmp_path / "direct"))


def test_a_stopped_run_goes_on_with_its_weights_and_its_optimiser(calls, runs, tmp_path):
    """And gives what a run gives that is split after that epoch by itself."""
    root, _ = runs
    source = root / "stopped" / tiny().place
    code, out, _ = calls("split", source / store.CHECKPOINT, "--layers", LAYER, "--out", tmp_path)
    assert code == 0
    assert "goes on after 1 of 3 epochs" in out
    config = tiny(split=(LAYER,), split_after=1)
    resumed = run(config, tmp_path)
    assert without_times(resumed) == without_times(run(config, tmp_path / "direct"))
    assert calls("split", source, "--layers", LAYER, "--out", tmp_path)[0] == 2, "it is there already"


def test_the_first_layers_of_the_table(calls, runs, tmp_path):
    _, finished = runs
    copied = tmp_path / "copy" / finished.config.place
    shutil.copytree(finished.path, copied)
    code, out, _ = calls("split", copied, "--top", "1", "--share", "1", "--after", "2")
    assert code == 0
    assert "Chosen: trunk" in out
    assert "shared for 2 of 3 epochs, then split" in out
    assert len(list((tmp_path / "copy").rglob(store.CONFIG))) == 2, "beside the run itself"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--layers", "trunk.3x"], "means no module of the model. Did you mean 'trunk.3'?"),
        (["--layers", "heads.left"], "heads.left"),
        (["--layers", LAYER, "--top", "2"], "--layers and --top are both given"),
        (["--top", "0"], "top(0): expected at least one layer"),
        (["--tau", "0.5"], "tau=0.5; expected a cosine with -1 < tau <= 0"),
        (["--layers", LAYER, "--after", "3"], "split_after is 3 of 3 epochs; expected fewer."),
    ],
)
def test_mistakes_of_split_are_one_line(arguments, expected, calls, runs, tmp_path):
    code, _, err = calls("split", runs[1].path, "--out", tmp_path, *arguments)
    assert code == 2
    assert expected in err
    assert "\n" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tasks": ("left",), "monitor_every": 0}, "trains one task alone; there is nobody to split layers between."),
        ({"monitor_every": 0}, "has no record, so no layer has a score"),
        ({"split": (LAYER,)}, "were split before"),
    ],
)
def test_runs_that_cannot_be_split(settings, expected, calls, tmp_path):
    found = run(tiny(epochs=1, **settings), tmp_path)
    code, _, err = calls("split", found.path)
    assert code == 2
    assert expected in err
    code, _, err = calls("split", tmp_path / "nowhere")
    assert code == 2
    assert "holds no run" in err
