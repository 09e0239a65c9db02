"""Running studies: pieces of work in processes beside each other; what is finished is kept, what was stopped goes on.

``<out>/<study>/rows/<cell>-seed<n>.json`` holds the rows of one cell and seed, written whole or not at all.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch

from accord.bench import files, pool
from accord.errors import AccordError
from accord.studies import registry
from accord.studies.fingerprint import fingerprint
from accord.studies.judging import SEEDS
from accord.studies.study import Results, Study, Work, plain, restored

ROWS = "rows"
REMEDY = "Remove this file and run the study again; all other pieces are kept."
KINDS = {
    "study": str, "cell": str, "seed": int, "seconds": float | int, "source": str, "rows": list, "environment": dict,
}  # fmt: skip
LAST = 10**9  # first seed: studies add to it, and not every generator takes more than 32 bits


@dataclass(frozen=True)
class Plan:
    """Which seeds of a study are run, and where.

    Args:
        study: what.
        root: folder of all studies.
        seeds: of a set; from five on there are verdicts.
        sets: disjoint sets of seeds, each with a verdict of its own.
        first: the first seed.
        smoke: a few steps only.
        broken: the name of what is broken on purpose; empty: nothing.

    Raises:
        AccordError: for a sabotage that the study does not have, or counts below one.

    Example:
        >>> plan = Plan(registry.find("E03"), Path("studies"), seeds=2, sets=2, first=7)
        >>> plan.series, plan.folder.as_posix()
        (((7, 8), (9, 10)), 'studies/E03')
    """

    study: Study
    root: Path
    seeds: int = SEEDS
    sets: int = 1
    first: int = 0
    smoke: bool = False
    broken: str = ""

    def __post_init__(self) -> None:
        for name in ("seeds", "sets"):
            if getattr(self, name) < 1:
                raise AccordError(f"--{name} is {getattr(self, name)}; expected at least 1.")
        if not 0 <= self.first <= LAST:
            raise AccordError(f"--first-seed is {self.first}; expected 0 to {LAST}.")
        if self.broken and self.broken not in self.study.sabotages:
            known = ", ".join(map(repr, self.study.sabotages)) or "none"
            raise AccordError(f"{self.study.name} has no sabotage {self.broken!r}; it has {known}.")

    @property
    def folder(self) -> Path:
        """Where rows and page lie: what is smoke or broken never mixes with the rest."""
        marks = [self.study.name, *(["smoke"] if self.smoke else []), *([slug(self.broken)] if self.broken else [])]
        return self.root / "-".join(marks)

    @property
    def series(self) -> tuple[tuple[int, ...], ...]:
        """The seeds of each set."""
        starts = range(self.first, self.first + self.seeds * self.sets, self.seeds)
        return tuple(tuple(range(start, start + self.seeds)) for start in starts)

    def works(self) -> list[Work]:
        """All pieces, seed by seed."""
        seeds = [seed for several in self.series for seed in several]
        return [Work(cell, seed, self.smoke, self.broken) for seed in seeds for cell in self.study.cells]

    def place(self, work: Work) -> Path:
        """The file of a piece."""
        return self.folder / ROWS / f"{slug(work.cell)}-seed{work.seed}.json"


class Watcher(Protocol):
    """Who wants to know how far things are."""

    def piece(self, plan: Plan, work: Work, seconds: float, fresh: bool) -> None:
        """A piece is done; ``fresh``: in this sitting."""

    def complete(self, plan: Plan) -> None:
        """All pieces of a study are done."""


def execute(plans: Sequence[Plan], watcher: Watcher, jobs: int = 1) -> None:
    """Run all pieces that are not there yet, study by study.

    Args:
        plans: what to run.
        watcher: is told about every piece.
        jobs: how many at once, each in a process of its own with one thread; 1: in this process.

    Raises:
        AccordError: if a file of an earlier sitting is damaged, a place cannot be written, or a process was killed.
    """
    if jobs < 1:
        raise AccordError(f"--jobs is {jobs}; expected at least 1.")
    left = {plan.folder: len(plan.works()) for plan in plans}

    def done(plan: Plan, work: Work, seconds: float, fresh: bool) -> None:
        watcher.piece(plan, work, seconds, fresh)
        left[plan.folder] -= 1
        if not left[plan.folder]:
            watcher.complete(plan)

    pending = []
    for plan in plans:
        for work in plan.works():
            if plan.place(work).exists():
                done(plan, work, float(_piece(plan, work)["seconds"]), False)
            else:
                pending.append((plan, work))
    if jobs == 1 or len(pending) < 2:
        for plan, work in pending:
            done(plan, work, perform(plan, work), True)
        return
    with _processes(min(jobs, len(pending))) as workers:
        with pool.deaf():  # processes start here; the terminal sends Ctrl-C to all, and we stop them
            running: dict[Future[float], tuple[Plan, Work]] = {
                workers.submit(_remote, plan.study.name, plan.root, work): (plan, work) for plan, work in pending
            }
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                plan, work = running.pop(future)
                done(plan, work, _outcome(future, plan, work), True)


def perform(plan: Plan, work: Work) -> float:
    """Measure one piece in this process with one thread, and write its rows.

    Returns:
        The seconds of CPU time that it took.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        began = time.process_time()
        with torch.random.fork_rng(devices=[]):  # studies seed what they draw; whatever they do not must not leak out
            torch.manual_seed(work.seed)
            rows = [plain(row) for row in plan.study.measure(work)]
        seconds = time.process_time() - began
    finally:
        torch.set_num_threads(threads)
    content = {
        "study": plan.study.name, "cell": work.cell, "seed": work.seed, "smoke": work.smoke, "broken": work.broken,
        "seconds": round(seconds, 3), "source": source(plan.study), "environment": environment(), "rows": rows,
    }  # fmt: skip
    files.write(plan.place(work), (json.dumps(content, ensure_ascii=False) + "\n").encode())
    return seconds


def results(plan: Plan) -> tuple[Results, dict[str, Any]]:
    """The rows of all seeds of a plan, and what is known about how they came about.

    Raises:
        AccordError: if a piece is missing or damaged.
    """
    pieces = [_piece(plan, work) for work in plan.works()]
    rows = [
        {**restored(row), "seed": piece["seed"], "cell": piece["cell"]} for piece in pieces for row in piece["rows"]
    ]
    about = {
        "seconds": sum(float(piece["seconds"]) for piece in pieces),
        "sources": sorted({str(piece["source"]) for piece in pieces}),
        "environments": [json.loads(text) for text in sorted({json.dumps(p["environment"]) for p in pieces})],
    }
    return Results(rows), about


def read(path: Path, name: str) -> dict[str, Any]:
    """One piece, as it was written.

    Raises:
        AccordError: if it is damaged or belongs to another study.
    """
    piece: dict[str, Any] = files.read_json(path, remedy=REMEDY)
    for key, kind in KINDS.items():
        if not isinstance(piece.get(key), kind):
            raise files.damaged(path, f"its {key!r} is missing or of another type", REMEDY)
    if not piece["rows"] or not all(isinstance(row, dict) for row in piece["rows"]):
        raise files.damaged(path, "its 'rows' are none, or no rows", REMEDY)
    if not math.isfinite(piece["seconds"]):
        raise files.damaged(path, "its 'seconds' are no number", REMEDY)
    if piece["study"] != name:
        raise files.damaged(path, f"it belongs to the study {piece['study']!r}, not to {name!r}", REMEDY)
    return piece


def _piece(plan: Plan, work: Work) -> dict[str, Any]:
    """One piece, from its place; a file that was copied or renamed is none."""
    place = plan.place(work)
    piece = read(place, plan.study.name)
    if (piece["cell"], piece["seed"]) != (work.cell, work.seed):
        raise files.damaged(place, f"it holds the cell {piece['cell']!r} with seed {piece['seed']}", REMEDY)
    return piece


def source(study: Study) -> str:
    """The fingerprint of how a study measures, so that a page can say whether that has changed since."""
    return fingerprint(study.measure.__module__, study.measure.__name__)


def environment() -> dict[str, str]:
    """Versions and machine, as far as they can change a number."""
    packages = {name: version(name) for name in ("accord", "torch", "numpy", "scikit-learn", "scipy")}
    return {"python": platform.python_version(), **packages, "machine": f"{platform.system()} {platform.machine()}"}


def slug(text: str) -> str:
    """A name as part of a file's name.

    Example:
        >>> slug("w=4, 20:1")
        'w=4-20-1'
    """
    return re.sub(r"[^\w=.]+", "-", text).strip("-")


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end at once when we are interrupted, and by themselves if we are killed."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads in an unknown state
    workers = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        yield workers
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def _begin() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def orphaned() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=orphaned, daemon=True).start()


def _remote(name: str, root: Path, work: Work) -> float:
    return perform(Plan(registry.find(name), root, smoke=work.smoke, broken=work.broken), work)


def _outcome(future: Future[float], plan: Plan, work: Work) -> float:
    try:
        return future.result()
    except BrokenProcessPool:
        raise AccordError(
            f"a process was killed while {plan.study.name}, {work.cell}, seed {work.seed} or another ran, perhaps "
            "for want of memory; the same command goes on, --jobs 1 needs the least."
        ) from None
