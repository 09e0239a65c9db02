"""The time of a step, sparse beside dense: one forward pass, K backward passes, weights, update.

    python benchmarks/sparse_step.py [--cases vit-ti vit-s conv mlp] [--tasks 2 3] [--density 0.3] [--json FILE]

All rows train equal models with AdamW and the same method in one process, in turn; the first round warms up. Ratios
are medians over rounds of time / time of the dense step of the same round, with the quartiles. ``operations``: those of
the step's matrix products and convolutions, of the dense ones. A second table has the parts that sparse training adds,
for one layer: gathering, writing, and widening indices, beside the weight's gradient, which both have to make.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import accord
from accord.sparse.select import select
from accord.sparse.selection import Rows
from accord.sparse.training import SparseTraining

from models import Case
from sparse_models import CASES

ROWS = ("dense", "PSN int16", "PSN int32", "PSN int64", "Columns")
BITS = {"int16": torch.int16, "int32": torch.int32, "int64": torch.int64}
PARTS = ("forward", "backward", "update")
CLOCK = time.perf_counter


def trainer(case: Case, row: str, density: float, method: str) -> Callable[[], dict[str, float]]:
    """A function that makes one step and returns the seconds of its parts."""
    model = case.model
    parameters = list(model.parameters())
    if row != "dense":
        rule, *bits = row.split()
        mask = select(model, f"{rule}(density={density})", heads="heads")
        if bits:
            wide = {n: dataclasses.replace(s, index=s.index.to(BITS[bits[0]])) for n, s in mask.selections.items()}
            mask = dataclasses.replace(mask, selections=wide)
        parameters = SparseTraining(model, mask).parameters()
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    balancer = accord.Balancer(model, method, engine="stacked")

    def step() -> dict[str, float]:
        marks = [CLOCK()]
        losses = case.losses()
        marks.append(CLOCK())
        balancer.backward(losses)
        marks.append(CLOCK())
        optimizer.step()
        optimizer.zero_grad()
        marks.append(CLOCK())
        return {part: marks[i + 1] - marks[i] for i, part in enumerate(PARTS)}

    return step


def operations(step: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def compare(name: str, tasks: int, density: float, method: str, repeats: int) -> list[dict[str, object]]:
    """Print and return one block of the table."""
    steps = {}
    for row in ROWS:
        torch.manual_seed(0)
        steps[row] = trainer(CASES[name](tasks), row, density, method)
    counted = {row: operations(step) for row, step in steps.items()}  # the first round, too
    times: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    for _ in range(repeats):
        for row, step in steps.items():
            times[row].append(step())
    results: list[dict[str, object]] = []
    for row in ROWS:
        pairs = list(zip(times[row], times["dense"], strict=True))
        ratios = [sum(mine.values()) / sum(dense.values()) for mine, dense in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4)
        parts = {part: statistics.median(mine[part] for mine in times[row]) for part in PARTS}
        print(
            f"{name:12} {tasks:2} {row:10} {1e3 * sum(parts.values()):8.1f} {middle:6.3f} ({low:.3f} to {high:.3f}) "
            + " ".join(f"{1e3 * parts[part]:9.1f}" for part in PARTS)
            + f" {counted[row] / counted['dense']:10.3f}",
            flush=True,
        )
        results.append(
            {"case": name, "K": tasks, "row": row, "ratio": middle, "quartiles": [low, high]}
            | {"ms": {part: 1e3 * parts[part] for part in PARTS}, "operations": counted[row]}
        )
    return results


def often(what: Callable[[], object], repeats: int) -> float:
    """Median seconds."""
    found = []
    for _ in range(repeats + 1):
        begun = CLOCK()
        what()
        found.append(CLOCK() - begun)
    return statistics.median(found[1:])


def layer(out: int, fan_in: int, rows: int, density: float, repeats: int) -> dict[str, float]:
    """Milliseconds of the parts for one linear layer of which a share is trained, on ``rows`` tokens."""
    torch.manual_seed(0)
    weight, k = torch.randn(out, fan_in), round(density * fan_in)
    index = weight.abs().topk(k, 1).indices.sort(1).values
    given, taken = torch.randn(rows, fan_in), torch.randn(rows, out)
    product = taken.T @ given
    found = {"gradient": often(lambda: taken.T @ given, repeats)}
    for bits, dtype in BITS.items():
        selection = Rows(index.to(dtype))
        compact = selection.gather(product)
        found[f"gather {bits}"] = often(lambda s=selection: s.gather(product), repeats)
        found[f"write {bits}"] = often(lambda s=selection, c=compact: s.scatter_(weight, c), repeats)
    narrow = index.to(torch.int16)
    found["widen int16"] = often(narrow.long, repeats)
    return {part: 1e3 * seconds for part, seconds in found.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=["vit-ti", "vit-s", "conv", "mlp"], choices=list(CASES))
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--density", type=float, default=0.3)
    parser.add_argument("--method", default="UPGrad()")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--cpu", action="store_true", help="CPU seconds of one thread, for a machine that is busy")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.cpu:
        global CLOCK
        CLOCK = time.process_time
        torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.method}, AdamW, density "
          f"{options.density}, {options.repeats} rounds, {'CPU' if options.cpu else 'wall'} time")  # fmt: skip
    print(f"{'case':12} {'K':>2} {'row':10} {'ms':>8} {'of dense (quartiles)':23} "
          + " ".join(f"{part:>9}" for part in PARTS) + f" {'operations':>10}")  # fmt: skip
    steps = [
        row
        for name in options.cases
        for tasks in options.tasks
        for row in compare(name, tasks, options.density, options.method, options.repeats)
    ]
    print("\nOne layer, 197 tokens, milliseconds")
    layers = {}
    for out, fan_in in ((384, 384), (1536, 384), (3072, 768), (768, 3072)):
        layers[f"{fan_in} to {out}"] = found = layer(out, fan_in, 197, options.density, options.repeats)
        print(f"{fan_in:4} to {out:4}: " + ", ".join(f"{part} {ms:.2f}" for part, ms in found.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"steps": steps, "layers": layers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
