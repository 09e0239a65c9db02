"""Memory of sparse training, measured beside dense training and beside the arithmetic.

    python benchmarks/sparse_memory.py [--models vit-ti vit-s vit-b llama-small] [--tasks 2 3] [--k 300] [--json FILE]

Each row comes from a fresh process: AdamW and UPGrad (stacked) train dense, or sparse with PSN and indices of 16 or 32
bits; a first training of the same model makes libraries allocate what is theirs. ``kept`` is what resident memory has
grown by after two steps, since the model was built: gradients, moments and indices (in brackets: and ``values``).
``a further task`` is how much higher the backward pass rises with one task more. Linux only.

Letters: P shared scalars, S trained ones of them, R those of S that are chosen row by row (the others are in tensors
that are trained whole), K tasks. In fp32, gradient and moments are 12 bytes for each trained scalar. Those of R have
an index of 2 or 4 bytes beside them, and 4 bytes more than the published arithmetic (12 S + 2 S) counts: they stand in
``values``, which the optimiser sees, and in their places of the weight.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

import accord
from accord.sparse.mask import Mask
from accord.sparse.select import count, select
from accord.sparse.training import SparseTraining

from memory import resident
from models import Case
from sparse_models import CASES, VITS, ViT, llama

ROWS = ("dense", "int16", "int32")
BITS = {"int16": torch.int16, "int32": torch.int32}
MIB, GB = 2**20, 1e9
TASKS = (2, 3, 10, 40)


def arithmetic(p: int, s: int, r: int, k: int, index: int = 2, weight: int = 4) -> dict[str, dict[str, float]]:
    """Bytes of dense and of compact training by item, with moments in fp32.

    Args:
        p: P.
        s: S.
        r: R.
        k: K.
        index: bytes of an index.
        weight: bytes of a weight. Weights of 16 bits have a copy in fp32 of what is trained, ``values``; gradients of
            the dense form are as wide as the weights, those of ``values`` are fp32 always.
    """
    copy = 4 * p if weight < 4 else 0
    compact = 4 * r + weight * (s - r)
    return {
        "dense": {"weights": weight * p, "gradient": weight * p, "moments": 8 * p, "index": 0, "values": copy}
        | {"tasks": k * weight * p},
        "compact": {"weights": weight * p, "gradient": compact, "moments": 8 * s, "index": index * r, "values": 4 * r}
        | {"tasks": k * compact},
    }


def kept(items: Mapping[str, float], *, values: bool) -> float:
    """Gradient, moments and indices, with or without the copy of what is trained."""
    return sum(items[name] for name in ("gradient", "moments", "index")) + (items["values"] if values else 0)


def with_bits(mask: Mask, dtype: torch.dtype) -> Mask:
    """The same mask with wider indices."""
    wide = {name: dataclasses.replace(s, index=s.index.to(dtype)) for name, s in mask.selections.items()}
    return dataclasses.replace(mask, selections=wide)


def train(case: Case, row: str, k: int, steps: int) -> dict[str, float]:
    """Prepare and train in this process; bytes."""
    model = case.model
    before = resident("VmRSS")
    if row == "dense":
        parameters = list(model.parameters())
    else:
        mask = with_bits(select(model, f"PSN(k={k})", heads="heads"), BITS[row])
        training = SparseTraining(model, mask)
        parameters = training.parameters()
    optimizer = torch.optim.AdamW(parameters)
    balancer = accord.Balancer(model, "UPGrad()", engine="stacked")
    rises = []
    for _ in range(steps):
        losses = case.losses()
        Path("/proc/self/clear_refs").write_text("5")
        forward = resident("VmRSS")
        balancer.backward(losses)
        rises.append(resident("VmHWM") - forward)
        del losses
        optimizer.step()
        left = resident("VmRSS")
        optimizer.zero_grad()
    heads = sum(p.numel() for p in case.heads.parameters())
    trained = sum(p.numel() for p in parameters) - heads
    return {
        "P": trained if row == "dense" else mask.shared,
        "S": trained,
        "R": 0 if row == "dense" else sum(s.index.numel() for s in mask.selections.values()),
        "kept": left - before - 12 * heads,
        "rise": rises[-1],
    }


def one(name: str, k: int, tasks: int, row: str) -> dict[str, float]:
    """Measure in this process."""
    torch.set_num_threads(1)
    for _ in range(2):
        torch.manual_seed(0)
        found = train(CASES[name](tasks), row, k, 2)
        gc.collect()
    return found


def measure(name: str, k: int, tasks: int, row: str) -> dict[str, float]:
    # Memory that is freed goes back to the system at once, so that the marks are those of live tensors.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--one", name, str(k), str(tasks), row]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def measured(names: list[str], tasks: list[int], k: int) -> list[dict[str, object]]:
    """Print and return what was measured."""
    print(f"Measured: fp32, PSN(k={k}), AdamW, UPGrad; MiB. In brackets: with values, which is all that is kept.")
    print(f"{'model':12} {'K':>2} {'row':6} {'P/1e6':>7} {'S/P':>6} | {'kept':>15} {'arithmetic':>15} | "
          f"{'of dense':>15} {'arithmetic':>15}")  # fmt: skip
    results: list[dict[str, object]] = []
    for name in names:
        for number in tasks:
            found = {row: measure(name, k, number, row) for row in ROWS}
            dense = found["dense"]
            for row, it in found.items():
                p, s, r = int(dense["P"]), int(it["S"]), int(it["R"])
                items = arithmetic(p, s, r, number, 4 if row == "int32" else 2)[
                    "dense" if row == "dense" else "compact"
                ]
                real = it["kept"] - items["values"], it["kept"]
                told = kept(items, values=False), kept(items, values=True)
                whole = 12 * p
                print(
                    f"{name:12} {number:2} {row:6} {p / 1e6:7.2f} {s / p:6.3f} | "
                    f"{real[0] / MIB:6.0f} ({real[1] / MIB:6.0f}) {told[0] / MIB:6.0f} ({told[1] / MIB:6.0f}) | "
                    f"{real[0] / dense['kept']:6.3f} ({real[1] / dense['kept']:6.3f}) "
                    f"{told[0] / whole:6.3f} ({told[1] / whole:6.3f})",
                    flush=True,
                )
                results.append({"model": name, "K": number, "row": row, **it})
    further(results)
    return results


def further(results: list[dict[str, object]]) -> None:
    """Print what a further task adds to the rise of the backward pass."""
    print("\nMeasured: a further task adds to the backward pass, MiB; arithmetic: 4 P dense, 4 S sparse")
    found = {(it["model"], it["row"], it["K"]): it for it in results}
    for (model, row, k), it in found.items():
        fewer = found.get((model, row, k - 1))
        if fewer is not None:
            more, told = it["rise"] - fewer["rise"], 4 * it["S"]
            print(f"{model:12} {row:6} K = {k - 1} to {k}: {more / MIB:7.1f}, arithmetic {told / MIB:7.1f}")


def shapes() -> dict[str, nn.Module]:
    """Models without memory."""
    with torch.device("meta"):
        vits = {f"ViT-{size}": ViT(*VITS[size]) for size in ("ti", "s", "b", "l")}
        big = {"LLaMA-like d2048": llama(2048, 5504, 24), "LLaMA-like d4096": llama(4096, 11008, 32)}
    return {**vits, **big}


def sizes(model: nn.Module, k: int) -> tuple[int, int, int]:
    """P, S and R from shapes."""
    found = count(model, f"PSN(k={k})")
    whole = count(model, "BitFit()").trainable  # biases
    whole += sum(
        m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.weight[0].numel() <= k
    )
    return found.total, found.trainable, found.trainable - whole


def tables(k: int) -> None:
    """Print the arithmetic."""
    print(f"\nArithmetic alone, nothing measured: fp32, PSN(k={k}), MiB. of 12 P: in brackets with values")
    print(f"{'model':17} {'P':>13} {'S':>11} | {'12 P':>6} {'12 S':>5} {'index':>5} {'values':>6} {'of 12 P':>15} | "
          "task gradients, dense and sparse"
          + ";".join(f" {f'K = {n}'}" for n in TASKS))  # fmt: skip
    for name, model in shapes().items():
        p, s, r = sizes(model, k)
        print(
            f"{name:17} {p:13,} {s:11,} | {12 * p / MIB:6.0f} {12 * s / MIB:5.0f} {2 * r / MIB:5.0f} {4 * r / MIB:6.0f}"
            f" {(12 * s + 2 * r) / (12 * p):6.3f} ({(12 * s + 6 * r) / (12 * p):6.3f}) |"
            + ";".join(f" {4 * n * p / MIB:.0f} {4 * n * s / MIB:.0f}" for n in TASKS)
        )
    print("\nArithmetic alone, nothing measured: weights of 16 bits, moments and trained copy in fp32, K = 3, GB")
    print(f"{'model':18} {'form':8} {'weights':>8} {'moments':>8} {'copy':>8} {'index':>8} {'tasks':>8} {'sum':>8} "
          f"{'and .grad':>9}")  # fmt: skip
    for name, model in list(shapes().items())[-2:]:
        for form, it in arithmetic(*sizes(model, k), 3, 2, 2).items():
            row = (it["weights"], it["moments"], it["values"], it["index"], it["tasks"])
            print(f"{name:18} {form:8} " + " ".join(f"{v / GB:8.1f}" for v in (*row, sum(row)))
                  + f" {(sum(row) + it['gradient']) / GB:9.1f}")  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["vit-ti", "vit-s", "vit-b", "llama-small"], choices=list(CASES))
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--k", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, k, tasks, row = options.one
        print(json.dumps(one(name, int(k), int(tasks), row)))
        return
    results = measured(options.models, options.tasks, options.k)
    tables(options.k)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
