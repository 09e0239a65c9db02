"""What ``accord demo`` runs."""

from __future__ import annotations

import os

from accord.bench.config import RunConfig, configure
from accord.problems import Digits

METHODS = ("Sum()", "PCGrad()", "UPGrad()", "CAGrad(c=0.5)", "NashMTL()")
SEEDS = 3
EVERY = 5  # measure every fifth step: enough to see conflict over time, and cheap beside these methods


def configs() -> list[RunConfig]:
    """Five methods and each task alone, three seeds; seed by seed, so that a busy minute slows all methods alike."""
    several = [{"method": method, "monitor_every": EVERY} for method in METHODS]
    alone = [{"tasks": (task,), "monitor_every": 0} for task in Digits.tasks]
    return [configure(problem="digits", **extra, seed=seed) for seed in range(SEEDS) for extra in several + alone]


def default_jobs() -> int:
    """Two workers where there are two cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, cores)
