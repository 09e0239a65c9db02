"""Ray: the same numbers as here, what was begun goes on, and every mistake arrives in one line."""

from __future__ import annotations

import sys
from contextlib import closing

import pytest
from test_kill import timeless

from accord.bench import cluster, pool, store
from accord.bench.run import run, stages
from accord.errors import AccordError
from stored import tiny


class Quiet:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.complete: list[int] = []

    def epoch(self, index: int, done: int) -> None:
        self.seen.append((index, done))

    def finished(self, index: int, run: store.Run) -> None:
        self.complete.append(index)


@pytest.fixture(scope="module")
def ray():
    """A cluster of this machine, as small as possible."""
    found = pytest.importorskip("ray", reason="ray is not installed")
    found.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield found
    found.shutdown()


def test_the_same_numbers_and_what_was_begun_goes_on(ray, tmp_path):
    configs = [tiny(method="RandomWeighting()"), tiny(method="UPGrad()", max_steps=6)]
    here = [run(config, tmp_path / "here") for config in configs]
    with closing(stages(configs[0], tmp_path / "there")) as epochs:
        assert [next(epochs), next(epochs)] == [0, 1]  # broken off after an epoch
    watcher = Quiet()
    there = cluster.execute(configs, tmp_path / "there", watcher)
    for one, other in zip(here, there, strict=True):
        assert timeless(other.result) == timeless(one.result)
        assert timeless(other.history) == timeless(one.history)
        assert other.record().gramians.tobytes() == one.record().gramians.tobytes()
        assert sorted(path.name for path in other.path.iterdir()) == sorted(path.name for path in one.path.iterdir())
    assert sorted(watcher.seen) == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    assert sorted(watcher.complete) == [0, 1]
    again = Quiet()
    cluster.execute(configs, tmp_path / "there", again)
    assert again.seen == [(0, 3), (1, 2)], "finished runs are skipped"


def test_a_mistake_arrives_in_one_line(ray, tmp_path):
    damaged = tmp_path / tiny().place
    with closing(stages(tiny(), tmp_path)) as epochs:
        assert [next(epochs), next(epochs)] == [0, 1]
    path = damaged / store.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(AccordError, match=r"checkpoint\.safetensors is damaged") as error:
        cluster.execute([tiny(), tiny(seed=1, epochs=50)], tmp_path, Quiet())
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("lock")), "the other run was let go"


def test_a_bug_arrives_in_one_line(ray, tmp_path, monkeypatch):
    def broken(*_):
        yield "epoch", 0, ({}, [])
        raise ZeroDivisionError("a bug,\nno mistake of the user")

    broken.__module__ = "__main__"  # so that it is sent as it is: workers cannot import this file
    monkeypatch.setattr(cluster, "_train", broken)
    with pytest.raises(AccordError, match=r"Sum\(\), seed 0 failed on a worker of Ray: ZeroDivisionError: a bug,"):
        cluster.execute([tiny()], tmp_path, Quiet())


def test_other_versions_on_a_worker_are_refused():
    versions = {**cluster.configuration.versions(), "torch": "1.0"}
    (found,) = cluster._train(tiny().model_dump(), {}, versions)
    assert found[0] == "mistake"
    assert "this machine torch 1.0; install the same everywhere" in found[1] or "this machine 1.0" in found[1]


def test_files_are_sent_as_they_change(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "steps").mkdir(parents=True)
    (one / "steps" / "a").write_text("1")
    (one / "lock").write_text("1")
    sent: dict[str, bytes] = {}
    cluster._apply(other, cluster._change(one, sent))
    assert cluster.content(other) == {"steps/a": b"1"} == sent
    (one / "steps" / "a").unlink()
    (one / "result.json").write_text("{}")
    change = cluster._change(one, sent)
    assert change == ({"result.json": b"{}"}, ["steps/a"])
    cluster._apply(other, change)
    assert cluster.content(other) == cluster.content(one)


def test_a_missing_ray_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AccordError, match=r"pip install 'accord\[ray\]'"):
        cluster.execute([tiny()], tmp_path, Quiet())
    with pytest.raises(AccordError, match="jobs is 0"):
        cluster.execute([tiny()], tmp_path, Quiet(), jobs=0)


def test_the_watcher_is_the_one_of_local_runs():
    assert set(pool.Watcher.__dict__) >= {"epoch", "finished"}
