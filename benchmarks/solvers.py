"""Milliseconds per solve, beside torchjd's weighting for the same method, in one process.

Both get the same Gramian as a float64 tensor and return a tensor of weights; NashMTL of torchjd takes the gradients
themselves, 2K numbers per task, which costs it next to nothing. Calls are interleaved, every repeat has its own
instance, and the figure is the median. The rows are correlated negatively, so that no method ends early for want of
conflict.

    python benchmarks/solvers.py --repeats 30
"""

from __future__ import annotations

import argparse
import logging
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
}


def _on_gramian(weighting: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda rows, gramian: weighting(gramian)


def _on_rows(aggregator: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda rows, gramian: aggregator(rows)


def instance(k: int, seed: int) -> Tensor:
    """Independent rows that are negatively correlated: x_i minus most of the mean."""
    rows = torch.randn(k, 2 * k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)  # (K, P)
    return rows - (1 - 1 / (2 * k)) * rows.mean(0)


def milliseconds(call: Callable[[], Tensor]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def measure(name: str, k: int, repeats: int) -> tuple[float, float]:
    """Median times of ours and theirs."""
    build, build_peer = PAIRS[name]
    method, theirs = build(), build_peer(k)
    times: tuple[list[float], list[float]] = ([], [])
    for seed in range(repeats + 2):
        rows = instance(k, seed)
        gramian = rows @ rows.T
        pair = (milliseconds(lambda: method(gramian)), milliseconds(lambda: theirs(rows, gramian)))  # noqa: B023
        if seed >= 2:  # the first two calls warm caches
            times[0].append(pair[0])
            times[1].append(pair[1])
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 3, 9, 20, 40])
    parser.add_argument("--methods", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")  # cvxpy, about the problems that torchjd hands it
    print(f"{'method':<12}{'K':>4}{'accord ms':>12}{'torchjd ms':>12}{'ratio':>8}")
    for name in options.methods:
        for k in options.tasks:
            mine, theirs = measure(name, k, options.repeats)
            print(f"{name:<12}{k:>4}{mine:>12.3f}{theirs:>12.3f}{theirs / mine:>7.1f}x", flush=True)


if __name__ == "__main__":
    main()
