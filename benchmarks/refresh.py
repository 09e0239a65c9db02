"""What ``refresh=n`` saves and what it changes: the average step beside the plain one, its update beside the exact one.

    python benchmarks/refresh.py [--cases mlp conv transformer] [--tasks 9] [--every 10] [--method "UPGrad()"]

Times: rounds of n steps of each kind in turn, in one process; ratios are medians over rounds of time / time of the
plain round. Cosines: along a training with SGD on a new batch in every step, between the update of the shared
parameters with kept weights and the one with weights solved for in that very step, on the same batch and parameters.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import accord

from models import CASES, Case


def seconds(rounds: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Times of every kind of round, in turn; the first repeat warms up."""
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for repeat in range(-1, repeats):
        for name, row in rounds.items():
            begun = time.perf_counter()
            row()
            if repeat >= 0:
                times[name].append(time.perf_counter() - begun)
    return times


def steps(case: Case, balancer: accord.Balancer, count: int) -> Callable[[], None]:
    def row() -> None:
        for _ in range(count):
            case.model.zero_grad()
            balancer.backward(case.losses())

    return row


def shared(case: Case) -> Tensor:
    """(P,) the update as it stands in ``.grad``."""
    return torch.cat([p.grad.flatten() for p in case.trunk.parameters() if p.grad is not None])


def cosines(case: Case, method: str, every: int, count: int, lr: float) -> list[float]:
    """Of each step's update with the exact one."""
    kept, exact = accord.Balancer(case.model, method, refresh=every), accord.Balancer(case.model, method)
    found = []
    for step in range(count):
        case.batch = torch.randn(case.batch.shape, generator=torch.Generator().manual_seed(step))
        updates = []
        for balancer in (exact, kept):
            case.model.zero_grad()
            balancer.backward(case.losses())
            updates.append(shared(case))
        found.append(float(torch.cosine_similarity(*updates, dim=0)))
        with torch.no_grad():
            for p in case.model.parameters():
                if p.grad is not None:
                    p -= lr * p.grad
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--tasks", nargs="+", type=int, default=[9])
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--method", default="UPGrad()")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="for the cosines")
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.method}, refresh={options.every}")
    print(
        f"{'case':12} {'K':>3} {'plain ms':>9} {'exact/plain':>12} {'kept/plain':>11} {'mean cosine':>12} {'lowest':>8}"
    )
    for name in options.cases:
        for k in options.tasks:
            case = CASES[name](k)
            balancers = {
                "plain": accord.Balancer(case.model, "Sum()"),
                "exact": accord.Balancer(case.model, options.method, engine="stacked"),
                "kept": accord.Balancer(case.model, options.method, engine="stacked", refresh=options.every),
            }
            times = seconds({n: steps(case, b, options.every) for n, b in balancers.items()}, options.repeats)
            over = {
                n: statistics.median(x / y for x, y in zip(times[n], times["plain"], strict=True))
                for n in ("exact", "kept")
            }
            found = cosines(copy.deepcopy(case), options.method, options.every, options.steps, options.lr)
            print(
                f"{name:12} {k:3} {1e3 * statistics.median(times['plain']) / options.every:9.1f} "
                f"{over['exact']:12.2f} {over['kept']:11.2f} {statistics.mean(found):12.4f} {min(found):8.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
