"""Milliseconds per solve, beside torchjd's weighting for the same method, in one process.

Both get the same Gramian as a float64 tensor and return a tensor of weights; NashMTL of torchjd takes the gradients
themselves, which costs it next to nothing. Calls are interleaved, every repeat has its own instance, and the figure is
the median. By default the rows are correlated negatively, so that no method ends early for want of conflict;
``--instances`` names other families, and a peer that fails on an instance leaves "fails" in its column.

    python benchmarks/solvers.py --repeats 30
    python benchmarks/solvers.py --methods UPGrad MGDA --instances gaussian wide deficient
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torchjd.aggregation as peer
from torch import Tensor

import accord.methods as ours

PAIRS: dict[str, tuple[Callable[[], ours.Weighting], Callable[[int], Callable[[Tensor, Tensor], Tensor]]]] = {
    "UPGrad": (ours.UPGrad, lambda k: _on_gramian(peer.UPGradWeighting())),
    "MGDA": (ours.MGDA, lambda k: _on_gramian(peer.MGDAWeighting())),
    "CAGrad": (ours.CAGrad, lambda k: _on_gramian(peer.CAGradWeighting(c=0.5))),
    "PCGrad": (ours.PCGrad, lambda k: _on_gramian(peer.PCGradWeighting())),
    "NashMTL": (ours.NashMTL, lambda k: _on_rows(peer.NashMTL(n_tasks=k))),
    "IMTLG": (ours.IMTLG, lambda k: _on_gramian(peer.IMTLGWeighting())),
    "AlignedMTL": (ours.AlignedMTL, lambda k: _on_gramian(peer.AlignedMTLWeighting())),
    "FairGrad": (ours.FairGrad, lambda k: _on_gramian(peer.FairGradWeighting(alpha=1.0))),
    "DualProj": (ours.DualProj, lambda k: _on_gramian(peer.DualProjWeighting())),
    "ConFIG": (ours.ConFIG, lambda k: _on_rows(peer.ConFIG())),
    "GradVac": (ours.GradVac, lambda k: _on_gramian(peer.GradVacWeighting())),
    "Krum": (ours.Krum, lambda k: _on_gramian(peer.KrumWeighting(n_byzantine=0))),
}


def _on_gramian(weighting: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda rows, gramian: weighting(gramian)


def _on_rows(aggregator: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda rows, gramian: aggregator(rows)


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def negative(k: int, seed: int) -> Tensor:
    """Independent rows that are negatively correlated: x_i minus most of the mean."""
    rows = normal(k, 2 * k, seed=seed)  # (K, P)
    return rows - (1 - 1 / (2 * k)) * rows.mean(0)


def deficient(k: int, seed: int) -> Tensor:
    """Rows of rank max(1, K // 2)."""
    rank = max(1, k // 2)
    return normal(k, rank, seed=seed) @ normal(rank, 2 * k, seed=seed + 1000)  # (K, P)


def unequal(k: int, seed: int) -> Tensor:
    """Negatively correlated rows whose norms spread geometrically over a ratio of 1e6."""
    order = torch.randperm(k, generator=torch.Generator().manual_seed(seed))
    return torch.logspace(0, -6, k, dtype=torch.float64)[order, None] * negative(k, seed)  # (K, P)


INSTANCES: dict[str, Callable[[int, int], Tensor]] = {
    "negative": negative,
    "gaussian": lambda k, seed: normal(k, 2 * k, seed=seed),
    "square": lambda k, seed: normal(k, k, seed=seed),
    "wide": lambda k, seed: normal(k, 1000, seed=seed),
    "deficient": deficient,
    "unequal": unequal,
    "positive": lambda k, seed: normal(k, 2 * k, seed=seed) + normal(1, 2 * k, seed=seed + 1000),
}


def milliseconds(call: Callable[[], Tensor]) -> float:
    """How long one call takes, without the time that other processes had."""
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def measure(name: str, k: int, repeats: int, family: str = "negative") -> tuple[float, float]:
    """Median times of ours and theirs; NaN for theirs where they fail."""
    build, build_peer = PAIRS[name]
    method, theirs = build(), build_peer(k)
    times: tuple[list[float], list[float]] = ([], [])
    for seed in range(repeats + 2):
        rows = INSTANCES[family](k, seed)
        gramian = rows @ rows.T
        mine = milliseconds(lambda: method(gramian))  # noqa: B023
        try:
            other = milliseconds(lambda: theirs(rows, gramian))  # noqa: B023
        except (ValueError, RuntimeError):
            other = math.nan
        if seed >= 2:  # the first two calls warm caches
            times[0].append(mine)
            times[1].append(other)
    return statistics.median(times[0]), math.nan if any(map(math.isnan, times[1])) else statistics.median(times[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 3, 9, 20, 40])
    parser.add_argument("--methods", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--instances", nargs="+", choices=list(INSTANCES), default=["negative"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")  # cvxpy, about the problems that torchjd hands it
    print(f"{'instances':<12}{'method':<12}{'K':>4}{'accord ms':>12}{'torchjd ms':>12}{'ratio':>8}")
    for family, name, k in itertools.product(options.instances, options.methods, options.tasks):
        mine, theirs = measure(name, k, options.repeats, family)
        beside = f"{'fails':>12}{'-':>8}" if math.isnan(theirs) else f"{theirs:>12.3f}{theirs / mine:>7.1f}x"
        print(f"{family:<12}{name:<12}{k:>4}{mine:>12.3f}{beside}", flush=True)


if __name__ == "__main__":
    main()
