"""kill -9 anywhere in a suite, started again and again: every file is that of an unbroken one."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord import cli
from accord.bench import files, store
from stored import start, wait_for

TIMES = {"seconds", "overhead", "loading_seconds", "wall_seconds", "peak_bytes"}
TIMED = {"time", "probe_seconds", "step_seconds"}
SUITE = """
name: k
problems: ["digits(train=256, validation=64, test=64, batch=16)"]
methods: [UPGrad, GradDrop]
epochs: 3
seeds: 1
monitor_every: 5
"""
LONG = SUITE.replace("epochs: 3", "epochs: 60").replace("seeds: 1", "seeds: 2")


def everything(root: Path) -> dict[str, Any]:
    """What lies below a folder, by name: values without times, and records as bytes."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        if path.is_dir() or path.suffix == ".parquet":
            continue
        name = path.relative_to(root).as_posix()
        found[name] = timeless(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
    folders = {path.parents[1] for path in root.rglob("*.parquet")}
    for folder in folders:
        record = store.load(folder).record()
        values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name not in TIMED}
        found[f"{folder.relative_to(root)}/steps"] = {
            name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in values.items()
        }
    return found


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def in_a_child(arguments: list[str]) -> multiprocessing.process.BaseProcess:
    """A fork of a process that has imported everything and done nothing, so that there are no threads to lose."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accord.cli.commands"])
    process = context.Process(target=quiet, args=(arguments,))
    process.start()
    return process


def quiet(arguments: list[str]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os._exit(cli.main(arguments))


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_killed_again_and_again(tmp_path):
    (tmp_path / "k.yaml").write_text(SUITE)
    assert cli.main(["bench", str(tmp_path / "k.yaml"), "--out", str(tmp_path / "whole")]) == 0
    broken, moments, codes = tmp_path / "broken", random.Random(5), []
    arguments = ["bench", str(tmp_path / "k.yaml"), "--out", str(broken)]
    for _ in range(12):
        process = in_a_child(arguments)
        process.join(moments.uniform(0.02, 0.5))
        process.kill()
        process.join()
        codes.append(process.exitcode)
    assert -signal.SIGKILL in codes
    last = in_a_child(arguments)
    last.join()
    assert last.exitcode == 0
    whole = everything(tmp_path / "whole")
    assert everything(broken) == whole
    assert sum(name.endswith("result.json") for name in whole) == 2


def test_a_killed_runner_takes_its_workers_with_it(tmp_path):
    """They do not go on beside a second runner, which is started at once and finds what was finished."""
    (tmp_path / "k.yaml").write_text(LONG)
    process = start("bench", tmp_path / "k.yaml", "--out", tmp_path / "out", "--jobs", 2)
    wait_for(lambda: len(list(tmp_path.rglob("checkpoint.safetensors"))) > 1, process, "two runs going on")
    process.kill()
    process.communicate()
    folders = [path.parent for path in tmp_path.rglob("checkpoint.safetensors")]
    for folder in folders:
        with files.lock(folder, patience=60):  # the system frees it when its holder ends
            history = json.loads((folder / store.HISTORY).read_text())
            assert len(history) < 60, "it went on without its parent"
    assert folders
