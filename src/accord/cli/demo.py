"""What ``accord demo`` runs."""

from __future__ import annotations

import os

from accord.bench.config import RunConfig, configure
from accord.problems import Digits, TPPHawkes

METHODS = ("Sum()", "PCGrad()", "UPGrad()", "CAGrad(c=0.5)", "NashMTL()")
EVENTS = "tpp-hawkes(train=400, validation=150, test=200, epochs=10)"  # simulated, so that nothing is downloaded
EVENT_METHODS = ("Sum()", "UPGrad()")
SEEDS = 3
EVERY = 5  # measure every fifth step: enough to see conflict over time, and cheap beside these methods


def configs() -> list[RunConfig]:
    """Two problems, several methods and each task alone, three seeds.

    Seed by seed, so that a busy minute slows all methods of a problem alike.
    """
    found = []
    for problem, tasks, methods in (("digits", Digits.tasks, METHODS), (EVENTS, TPPHawkes.tasks, EVENT_METHODS)):
        several = [{"method": method, "monitor_every": EVERY} for method in methods]
        alone = [{"tasks": (task,), "monitor_every": 0} for task in tasks]
        found += [configure(problem=problem, **extra, seed=s) for s in range(SEEDS) for extra in several + alone]
    return found


def default_jobs() -> int:
    """Two workers where there are two cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, cores)
