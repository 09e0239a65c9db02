"""Milliseconds per call of every method, beside torchjd's for the same method where it has one, in one process.

Both get the same input as float64 tensors: a Gramian and return weights, or the gradients themselves (aggregations, and
torchjd's NashMTL and ConFIG), or losses (their scalarisations, whose gradient is the weights). Calls are interleaved,
every repeat has its own instance, and the figure is the median. By default the rows are correlated negatively, so that
no method ends early for want of conflict; ``--instances`` names other families. A peer that fails on an instance leaves
"fails" in its column, and a method without one a dash. Bilevel methods have no call without a model.

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
from torchjd import scalarization

import accord.methods as ours

Call = Callable[[Tensor, Tensor, Tensor], Tensor]  # rows (K, P), gramian (K, K), losses (K,)


def _gramian(weighting: Callable[[Tensor], Tensor]) -> Call:
    return lambda rows, gramian, losses: weighting(gramian)


def _rows(aggregator: Callable[[Tensor], Tensor]) -> Call:
    return lambda rows, gramian, losses: aggregator(rows)


def _losses(scalarizer: Callable[[Tensor], Tensor]) -> Call:
    def weights(rows: Tensor, gramian: Tensor, losses: Tensor) -> Tensor:
        losses = losses.detach().requires_grad_()
        return torch.autograd.grad(scalarizer(losses), losses)[0]

    return weights


PEERS: dict[str, Callable[[int], Call]] = {
    "UPGrad": lambda k: _gramian(peer.UPGradWeighting()),
    "MGDA": lambda k: _gramian(peer.MGDAWeighting()),
    "CAGrad": lambda k: _gramian(peer.CAGradWeighting(c=0.5)),
    "PCGrad": lambda k: _gramian(peer.PCGradWeighting()),
    "NashMTL": lambda k: _rows(peer.NashMTL(n_tasks=k)),
    "IMTLG": lambda k: _gramian(peer.IMTLGWeighting()),
    "AlignedMTL": lambda k: _gramian(peer.AlignedMTLWeighting()),
    "FairGrad": lambda k: _gramian(peer.FairGradWeighting(alpha=1.0)),
    "DualProj": lambda k: _gramian(peer.DualProjWeighting()),
    "ConFIG": lambda k: _rows(peer.ConFIG()),
    "GradVac": lambda k: _gramian(peer.GradVacWeighting()),
    "Krum": lambda k: _gramian(peer.KrumWeighting(n_byzantine=0)),
    "SDMGrad": lambda k: _gramian(peer.SDMGradWeighting()),
    "MoDo": lambda k: _gramian(peer.MoDoWeighting()),
    "Smoothed": lambda k: _gramian(peer.CRMOGMWeighting(peer.UPGradWeighting())),
    "GradDrop": lambda k: _rows(peer.GradDrop()),
    "TrimmedMean": lambda k: _rows(peer.TrimmedMean(1)),
    "ExcessMTL": lambda k: _rows(peer.ExcessMTLWeighting()),
    "DWA": lambda k: _losses(scalarization.DWA()),
    "FAMO": lambda k: _losses(scalarization.FAMO(k)),
    "GLS": lambda k: _losses(scalarization.GeometricMean()),
    "IMTLL": lambda k: _losses(scalarization.IMTLL(k)),
    "UncertaintyWeighting": lambda k: _losses(scalarization.UW(k)),
    "RandomWeighting": lambda k: _losses(scalarization.Random()),
    "STCH": lambda k: _losses(scalarization.STCH(1.0)),
    "PBI": lambda k: _losses(scalarization.PBI(5.0, torch.ones(k, dtype=torch.float64))),
    "COSMOS": lambda k: _losses(scalarization.COSMOS(2.0, torch.ones(k, dtype=torch.float64))),
}
REQUIRED = {"Constant": "weights", "PBI": "weights", "COSMOS": "ratio"}
METHODS = {cls.__name__: cls for cls in ours.METHODS if not cls.needs_validation}


def mine(name: str, k: int) -> Call:
    """Our method, given what it reads."""
    method = METHODS[name](**({REQUIRED[name]: (1.0,) * k} if name in REQUIRED else {}))
    if isinstance(method, ours.Aggregation):
        return lambda rows, gramian, losses: method.aggregate(rows, losses)
    assert isinstance(method, ours.Weighting)
    if method.needs_gradients:
        return lambda rows, gramian, losses: method(losses=losses, gradients=rows)
    if method.needs_second_batch:
        return lambda rows, gramian, losses: method(losses=losses, cross=gramian)
    if method.needs_gramian:
        return lambda rows, gramian, losses: method(gramian, losses)
    return lambda rows, gramian, losses: method(losses=losses)


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


def measure(name: str, k: int, repeats: int, family: str = "negative") -> tuple[float, float | None]:
    """Median times of ours and theirs; NaN for theirs where they fail, None where there is none."""
    own, theirs = mine(name, k), PEERS[name](k) if name in PEERS else None
    times: tuple[list[float], list[float]] = ([], [])
    for seed in range(repeats + 2):
        rows = INSTANCES[family](k, seed)
        given = rows, rows @ rows.T, normal(k, seed=seed).abs() + 0.1
        pair = [milliseconds(lambda: own(*given))]  # noqa: B023
        if theirs is not None:
            try:
                pair.append(milliseconds(lambda: theirs(*given)))  # noqa: B023
            except (ValueError, RuntimeError):
                pair.append(math.nan)
        if seed >= 2:  # the first two calls warm caches
            for all_times, time_ in zip(times, pair, strict=False):
                all_times.append(time_)
    if theirs is None:
        return statistics.median(times[0]), None
    return statistics.median(times[0]), math.nan if any(map(math.isnan, times[1])) else statistics.median(times[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 3, 9, 20, 40])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--peers", action="store_true", help="only methods that torchjd has, too")
    parser.add_argument("--instances", nargs="+", choices=list(INSTANCES), default=["negative"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")  # cvxpy, about the problems that torchjd hands it
    print(f"{'instances':<12}{'method':<22}{'K':>4}{'accord ms':>12}{'torchjd ms':>12}{'ratio':>8}")
    methods = [name for name in options.methods if name in PEERS or not options.peers]
    for family, name, k in itertools.product(options.instances, methods, options.tasks):
        time_, other = measure(name, k, options.repeats, family)
        beside = "" if other is None else f"{other:>12.3f}{other / time_:>7.1f}x"
        beside = f"{'-' if other is None else 'fails':>12}{'-':>8}" if other is None or math.isnan(other) else beside
        print(f"{family:<12}{name:<22}{k:>4}{time_:>12.3f}{beside}", flush=True)


if __name__ == "__main__":
    main()
