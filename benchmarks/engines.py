"""Time of a whole step (forward, gradients, weights, .grad) beside torchjd and beside the floor, in one process.

    python benchmarks/engines.py [--cases mlp conv transformer] [--tasks 2 3 9 40] [--repeats 7] [--json FILE]

Rows: plain ``sum(losses).backward()``; the floor (one forward, all heads, K trunk backward passes); Accord's engines
with UPGrad; torchjd's default (vmap) and its ``parallel_chunk_size=1``, with UPGrad. Every repeat runs all rows in
turn, so that a busy machine slows all of them; ratios are medians over repeats of time / time in the same repeat.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torchjd.aggregation import UPGrad as PeerUPGrad
from torchjd.autojac import jac_to_grad, mtl_backward

import accord

from models import CASES, Case

Row = Callable[[], None]


def plain(case: Case) -> Row:
    def row() -> None:
        sum(case.losses().values()).backward()

    return row


def floor(case: Case) -> Row:
    """What K task gradients cost at least: nothing is multiplied, added or kept."""

    def row() -> None:
        z = case.trunk(case.batch)
        cut = z.detach().requires_grad_()
        total = sum((head(cut) - i).square().mean() for i, head in enumerate(case.heads))
        total.backward()
        parameters = list(case.trunk.parameters())
        cotangent = cut.grad
        for i in range(len(case.heads)):
            torch.autograd.grad(z, parameters, cotangent, retain_graph=i < len(case.heads) - 1)

    return row


def ours(case: Case, engine: str) -> Row:
    balancer = accord.Balancer(case.model, accord.UPGrad(), engine=engine)

    def row() -> None:
        balancer.backward(case.losses())

    return row


def theirs(case: Case, chunk: int | None) -> Row:
    aggregator = PeerUPGrad()
    shared = list(case.trunk.parameters())

    def row() -> None:
        z = case.trunk(case.batch)
        losses = [(head(z) - i).square().mean() for i, head in enumerate(case.heads)]
        mtl_backward(losses, features=z, parallel_chunk_size=chunk)
        jac_to_grad(shared, aggregator)

    return row


def measure(case: Case, repeats: int) -> dict[str, list[float]]:
    rows = {
        "plain": plain(case),
        "floor": floor(case),
        "stacked": ours(case, "stacked"),
        "segmented": ours(case, "segmented"),
        "features": ours(case, "features"),
        "torchjd": theirs(case, None),
        "torchjd chunk 1": theirs(case, 1),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(-1, repeats):  # the first round warms up
        for name, row in rows.items():
            case.model.zero_grad()
            gc.collect()
            begun = time.perf_counter()
            row()
            if repeat >= 0:
                times[name].append(time.perf_counter() - begun)
    return times


def ratio(times: dict[str, list[float]], a: str, b: str) -> float:
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 3, 9, 40])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {arguments.repeats} repeats")
    over = ("", "", "", "", "stacked/", "stacked/", "segm./", "features/", "torchjd/", "chunk 1/")
    under = ("case", "K", "plain ms", "floor ms", "floor", "best peer", "floor", "plain", "floor", "floor")
    for line in (over, under):
        print(f"{line[0]:12} {line[1]:>3} " + " ".join(f"{word:>9}" for word in line[2:]))
    results = []
    for name in arguments.cases:
        for k in arguments.tasks:
            times = measure(CASES[name](k), arguments.repeats)
            best = min(("torchjd", "torchjd chunk 1"), key=lambda peer: statistics.median(times[peer]))
            figures = {
                "plain": statistics.median(times["plain"]) * 1e3,
                "floor": statistics.median(times["floor"]) * 1e3,
                "stacked/floor": ratio(times, "stacked", "floor"),
                "stacked/best peer": ratio(times, "stacked", best),
                "segmented/floor": ratio(times, "segmented", "floor"),
                "features/plain": ratio(times, "features", "plain"),
                "torchjd/floor": ratio(times, "torchjd", "floor"),
                "torchjd chunk 1/floor": ratio(times, "torchjd chunk 1", "floor"),
            }
            results.append({"case": name, "K": k, "best peer": best, **figures})
            if arguments.json:  # after each row, so that a stopped run keeps what it has
                arguments.json.write_text(json.dumps(results, indent=1) + "\n")
            print(
                f"{name:12} {k:3} " + " ".join(f"{v:9.1f}" if v > 5 else f"{v:9.2f}" for v in figures.values()),
                flush=True,
            )


if __name__ == "__main__":
    main()
