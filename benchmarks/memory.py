"""Peak memory of a step above the state after the forward pass, in multiples of the P shared parameters.

    python benchmarks/memory.py [--models mlp conv transformer] [--tasks 2 4 8] [--json FILE]

Each figure comes from a fresh process: it runs the forward pass, resets the kernel's high-water mark of resident
memory, runs the step with UPGrad, and reads the mark. Linux only. Bounds: stacked K + 1.2; segmented
1.5 + K x (largest segment's parameters + its boundary activation) / P.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import accord
from accord.engines import segmented
from accord.sharing import discover, frontier

from models import Case, Encoder, resnet

ROWS = ("plain", "stacked", "segmented", "features", "torchjd", "torchjd chunk 1")


def case(name: str, k: int) -> Case:
    """Models of at least 25 M shared parameters, on small batches."""
    if name == "mlp":
        trunk = nn.Sequential(*(m for _ in range(24) for m in (nn.Linear(1024, 1024), nn.ReLU())))
        return Case(trunk, nn.ModuleList(nn.Linear(1024, 10) for _ in range(k)), torch.randn(32, 1024))
    if name == "conv":
        return Case(resnet(96), nn.ModuleList(nn.Linear(768, 10) for _ in range(k)), torch.randn(4, 3, 32, 32))
    return Case(Encoder(512, 8), nn.ModuleList(nn.Linear(512, 10) for _ in range(k)), torch.randn(4, 16, 512))


def resident(field: str) -> int:
    """VmRSS or VmHWM in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def losses_at(what: Case, z: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"t{i}": (head(z) - i).square().mean() for i, head in enumerate(what.heads)}


def step(what: Case, row: str, z: torch.Tensor) -> Callable[[], object]:
    """All of the step that follows the forward pass."""
    losses = losses_at(what, z)
    if row == "plain":
        return lambda: sum(losses.values()).backward()
    if not row.startswith("torchjd"):
        balancer = accord.Balancer(what.model, "UPGrad()", engine=row)
        return lambda: balancer.backward(losses)
    from torchjd.aggregation import UPGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    def theirs() -> None:
        mtl_backward(list(losses.values()), features=z, parallel_chunk_size=1 if row.endswith("1") else None)
        jac_to_grad(what.trunk.parameters(), UPGrad())

    return theirs


def one(name: str, k: int, row: str) -> dict[str, float]:
    """Measure in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    what = Case(nn.Linear(4, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(k)), torch.randn(2, 4))
    step(what, row, what.trunk(what.batch))()  # libraries load and allocate their own buffers now
    what = case(name, k)
    size = sum(p.numel() * p.element_size() for p in what.trunk.parameters())
    z = what.trunk(what.batch)
    losses = losses_at(what, z)
    bound = float("nan")
    if row == "segmented":
        sharing = discover(what.model, losses)
        cut = frontier(sharing)
        assert cut is not None
        parts = segmented.merge(segmented.segments(sharing, cut), sharing)
        largest = max(sum(sharing.shared[p].numel() for p in part.parameters) for part in parts) * 4
        boundary = z.numel() * 4 * (what.batch.shape[1] if z.ndim < what.batch.ndim and what.batch.ndim == 3 else 1)
        if name == "conv":
            boundary = len(what.batch) * 96 * 32 * 32 * 4  # the widest residual stream
        bound = 1.5 + k * (largest + boundary) / size
        del sharing, cut, parts
    elif row == "stacked":
        bound = k + 1.2
    run = step(what, row, z)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return {"P": size / 4, "extra": (resident("VmHWM") - before) / size, "bound": bound}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mlp", "conv", "transformer"])
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, k, row = arguments.one
        print(json.dumps(one(name, int(k), row)))
        return
    # Memory that is freed goes back to the system at once, so that the mark is that of live tensors.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    print(
        f"{'model':12} {'K':>2} {'P/1e6':>6} | "
        + " ".join(f"{row:>15}" for row in ROWS)
        + " |  bounds: stacked segmented"
    )
    results = []
    for name in arguments.models:
        for k in arguments.tasks:
            found = {}
            for row in ROWS:
                command = [sys.executable, __file__, "--one", name, str(k), row]
                output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                found[row] = json.loads(output.splitlines()[-1])
            print(
                f"{name:12} {k:2} {found['plain']['P'] / 1e6:6.1f} | "
                + " ".join(f"{found[row]['extra']:15.2f}" for row in ROWS)
                + f" | {found['stacked']['bound']:16.2f} {found['segmented']['bound']:9.2f}",
                flush=True,
            )
            results.append({"model": name, "K": k, **found})
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
